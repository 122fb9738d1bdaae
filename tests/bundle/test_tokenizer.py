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
