"""The prompt as token numbers, by the tokenizer that the bundle carries.

A `tokenizer.json` is a small program: it can blow up a text as it likes, and pad it to any length.
So its parts are of kinds that CLIP's and the packaged tokenizer are made of, few, and small.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from keyvid.errors import BundleError

TOKENIZER = "tokenizer.json"  # in the bundle

_MAX_BYTES = 16 * 2**20  # CLIP's has 2.2 MB
_MAX_PARTS = 8  # of a kind; each of them may at most double a text
_MAX_SPECIAL = 16  # tokens that are put around a text
_MAX_AFFIX = 16  # characters
_AFFIXES = ("continuing_subword_prefix", "end_of_word_suffix")
_KINDS = {
    "normalizer": {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Replace"},
    "pre_tokenizer": {"ByteLevel", "Split", "Whitespace", "WhitespaceSplit", "Punctuation"},
    "post_processor": {"TemplateProcessing", "RobertaProcessing", "BertProcessing", "ByteLevel"},
    "model": {"BPE", "WordLevel"},
}
_SEQUENCES = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "post_processor": "processors",
}


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
        tokenizer = open_tokenizer(path, num_tokens)
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


def open_tokenizer(path: Path, num_tokens: int) -> Tokenizer:
    """A tokenizer from a file of anyone's.

    Args:
        num_tokens: N, the most that it may cut or pad to.
    Raises:
        ValueError: it is of other kinds than expected, or larger.
        Exception: what the tokenizers library raises.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES} bytes")
    _check_tokenizer(json.loads(content, object_pairs_hook=_distinct), num_tokens)
    return Tokenizer.from_str(content.decode())


def _check_tokenizer(content: Any, num_tokens: int) -> None:
    """Refuse, with a ValueError, what may take more time or memory than a text is worth."""
    if not isinstance(content, dict):
        raise ValueError("not an object")
    for place in _KINDS:
        parts = list(_parts(content.get(place), place))
        if len(parts) > _MAX_PARTS:
            raise ValueError(f"{len(parts)} parts of {place}, at most {_MAX_PARTS} are read")
        for part in parts:
            _check_part(part, place)
    cut, pad = content.get("truncation") or {}, content.get("padding") or {}
    strategy = pad.get("strategy", {"Fixed": 0})
    lengths = [cut.get("max_length", 0), strategy["Fixed"] if strategy != "BatchLongest" else 0]
    if max(lengths) > num_tokens or cut.get("stride") or pad.get("pad_to_multiple_of"):
        raise ValueError(
            f"cuts and pads to {lengths}, stride {cut.get('stride')}, multiples of "
            f"{pad.get('pad_to_multiple_of')}; {num_tokens} tokens are wanted"
        )


def _parts(part: Any, place: str) -> Iterator[dict[str, Any]]:
    """A part, or the parts of a sequence of such."""
    if part is None:
        return
    if part.get("type") != "Sequence":
        yield part
        return
    for inner in part[_SEQUENCES[place]]:
        if inner.get("type") == "Sequence":
            raise ValueError(f"a sequence within a sequence in {place}")
        yield inner


def _check_part(part: dict[str, Any], place: str) -> None:
    if (kind := part.get("type")) not in _KINDS[place]:
        raise ValueError(f"{place} {kind!r:.40}; {', '.join(sorted(_KINDS[place]))} are read")
    if kind == "Replace" and len(part["content"]) > 1:
        raise ValueError("a normalizer that puts more than a character in place of another text")
    if kind == "BPE" and any(len(part.get(key) or "") > _MAX_AFFIX for key in _AFFIXES):
        raise ValueError(f"an affix of more than {_MAX_AFFIX} characters")
    if kind == "TemplateProcessing":
        special = part["special_tokens"].values()
        numbers = {token["id"]: len(token["ids"]) for token in special}
        used = [item["SpecialToken"]["id"] for item in part["single"] if "SpecialToken" in item]
        if len(part["single"]) + sum(numbers[name] for name in used) > _MAX_SPECIAL:
            raise ValueError(f"more than {_MAX_SPECIAL} tokens around a text")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key stands twice")
    return content
