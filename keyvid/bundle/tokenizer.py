"""The prompt as token numbers, by the tokenizer that the bundle carries."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from keyvid.errors import BundleError

TOKENIZER = "tokenizer.json"  # in the bundle


def tokenize(path: Path, texts: list[str], num_tokens: int, vocabulary: int) -> np.ndarray:
    """Token numbers of `texts`; long ones are cut and short ones padded, as `path` says.

    Args:
        path: a `tokenizer.json` of the tokenizers library.
        num_tokens: N, what the text encoder takes.
        vocabulary: rows of the text encoder's table.
    Returns:
        (len(texts), N) int64.
    Raises:
        BundleError: it is no tokenizer, or none for that text encoder.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
        rows = [tokenizer.encode(text).ids for text in texts]
        numbers = {*tokenizer.get_vocab().values(), *(number for row in rows for number in row)}
    except BaseException as error:  # the library raises nothing narrower, and panics
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{path}: not a tokenizer ({reason}); export the bundle again") from error
    if (lengths := {len(row) for row in rows}) != {num_tokens}:
        raise BundleError(
            f"{path}: gives {sorted(lengths)} tokens, the text encoder takes {num_tokens}; "
            "export the bundle again"
        )
    if max(numbers) >= vocabulary:
        raise BundleError(
            f"{path}: gives token {max(numbers)}, the text encoder knows 0 to {vocabulary - 1}; "
            "export the bundle again"
        )
    return np.array(rows, np.int64)
