import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from keyvid.bundle.tokenizer import tokenize
from keyvid.errors import BundleError


@pytest.fixture
def path(tmp_path):
    """A tokenizer of three words that cuts and pads to five tokens."""
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "a": 1, "hammer": 2}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=5)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_tokens(path):
    tokens = tokenize(path, ["", "a hammer", "a a a a a a a"], 5, 3)
    assert tokens.dtype == np.int64
    assert tokens.tolist() == [[0] * 5, [1, 2, 0, 0, 0], [1] * 5]


def test_another_length_than_the_encoder_takes(path):
    with pytest.raises(BundleError, match=r"gives \[5\] tokens, the text encoder takes 77"):
        tokenize(path, ["a"], 77, 3)


def test_more_tokens_than_the_encoder_knows(path):
    with pytest.raises(BundleError, match=r"gives token 2, the text encoder knows 0 to 1; export"):
        tokenize(path, ["a"], 5, 2)
    text = (
        path.read_text().replace('"pad_id":0', '"pad_id":7').replace('"pad_id": 0', '"pad_id": 7')
    )
    path.write_text(text)
    with pytest.raises(BundleError, match=r"gives token 7, the text encoder knows 0 to 2; export"):
        tokenize(path, ["a"], 5, 3)


@pytest.mark.parametrize("content", [None, "", "{}", "no json"])
def test_not_a_tokenizer(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BundleError, match=r"tokenizer\.json: not a tokenizer"):
        tokenize(path, [""], 5, 3)


def _nested(parts):
    return {"type": "Sequence", "normalizers": parts}


_DOUBLES = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
_SPECIAL = {"SpecialToken": {"id": "<pad>", "type_id": 0}}
_PADDED = {"direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"}


@pytest.mark.security
@pytest.mark.parametrize(
    ("place", "part", "message"),
    [
        ("normalizer", {"type": "Prepend", "prepend": "a" * 4000}, "normalizer 'Prepend'; "),
        ("normalizer", _DOUBLES, "more than a character in place"),
        ("normalizer", _nested([{"type": "NFKD"}] * 30), "30 parts of normalizer, at most 8"),
        ("normalizer", _nested([_nested([_DOUBLES])]), "a sequence within a sequence"),
        ("pre_tokenizer", {"type": "Metaspace"}, "pre_tokenizer 'Metaspace'; ByteLevel, "),
        (
            "post_processor",
            {
                "type": "TemplateProcessing",
                "single": [_SPECIAL],
                "pair": [],
                "special_tokens": {
                    "<pad>": {"id": "<pad>", "ids": [0] * 99, "tokens": ["<pad>"] * 99}
                },
            },
            "more than 16 tokens around a text",
        ),
        ("model", {"type": "Unigram", "vocab": [["a", 0.0]]}, "model 'Unigram'; BPE, WordLevel"),
        (
            "model",
            {"type": "BPE", "vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "a" * 17},
            "an affix of more than 16 characters",
        ),
        ("padding", {**_PADDED, "strategy": {"Fixed": 10**9}}, r"cuts and pads to \[5, 1000000000"),
        (
            "padding",
            {**_PADDED, "strategy": {"Fixed": 5}, "pad_to_multiple_of": 10**9},
            "multiples of 1000000000; 5 tokens are wanted",
        ),
        (
            "padding",
            {**_PADDED, "strategy": "BatchLongest", "pad_to_multiple_of": 10**9},
            "multiples of 1000000000; 5 tokens are wanted",
        ),
    ],
)
def test_a_tokenizer_that_blows_up_is_refused_before_it_is_run(path, place, part, message):
    """All of them have less than 8 kB, and some made gigabytes of a short text."""
    content = json.loads(path.read_text()) | {place: part}
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=message):
        tokenize(path, ["a hammer"], 5, 3)


@pytest.mark.security
def test_a_large_tokenizer_and_keys_that_stand_twice_are_refused(path, monkeypatch):
    content = path.read_text()
    path.write_text(content.rstrip()[:-1] + ', "padding": null}')
    with pytest.raises(BundleError, match="a key stands twice"):
        tokenize(path, ["a"], 5, 3)
    monkeypatch.setattr("keyvid.bundle.tokenizer._MAX_BYTES", 100)
    with pytest.raises(BundleError, match="more than 100 bytes"):
        tokenize(path, ["a"], 5, 3)


def test_the_kinds_that_clip_is_made_of_are_read(path):
    """Its file is not here; its parts are, as OpenCLIP's repository has them."""
    content = json.loads(path.read_text())
    content["normalizer"] = _nested(
        [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]
    )
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    split = {
        "type": "Split",
        "pattern": {"Regex": "'s|[\\p{L}]+|[\\p{N}]"},
        "behavior": "Removed",
        "invert": True,
    }
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, byte_level]}
    content["post_processor"] = {
        "type": "RobertaProcessing",
        "sep": ["<pad>", 0],
        "cls": ["<pad>", 0],
        "trim_offsets": False,
        "add_prefix_space": False,
    }
    path.write_text(json.dumps(content))
    assert tokenize(path, ["A  hammer"], 5, 3).tolist() == [[0, 1, 2, 0, 0]]
