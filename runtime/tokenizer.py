"""The prompt as token numbers, by the tokenizer that the bundle carries."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from keyvid.errors import BundleError


def tokenize(path: Path, texts: list[str], num_tokens: int) -> np.ndarray:
    """Token numbers of `texts`; long ones are cut and short ones padded, as `path` says.

    Args:
        path: a `tokenizer.json` of the tokenizers library.
        num_tokens: N, what the text encoder takes.
    Returns:
        (len(texts), N) int64.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise BundleError(f"{path}: not a tokenizer ({error}); export the bundle again") from error
    rows = [tokenizer.encode(text).ids for text in texts]
    lengths = {len(row) for row in rows}
    if lengths != {num_tokens}:
        raise BundleError(
            f"{path}: gives {sorted(lengths)} tokens, the text encoder takes {num_tokens}; "
            "export the bundle again"
        )
    return np.array(rows, np.int64)
