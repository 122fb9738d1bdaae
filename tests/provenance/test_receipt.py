"""Receipts: sealed, read again, and named where they were changed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from keyvid.provenance.digests import Trace, digest_of
from keyvid.provenance.receipt import (
    Making,
    Packets,
    ReceiptError,
    Writing,
    looks_like_a_receipt,
    read_receipt,
    write_receipt,
)
from tests.verify.made import made_clip

PACKETS = Packets.of([b"1" * 32, b"2" * 32])
WRITING = Writing(".mp4", 2, "lanczos", PACKETS, None, "AAAA", "AAAA", 64 * "0")


def making() -> Making:
    """That of a made-up clip."""
    made = made_clip().making
    assert made is not None
    return made


def test_what_is_written_is_read() -> None:
    text = write_receipt(making(), WRITING)
    receipt = read_receipt(text)
    assert (receipt.making, receipt.writing, receipt.broken) == (making(), WRITING, ())
    assert text.isascii()
    assert not set(text) & set("<>&\n")
    assert looks_like_a_receipt(text)


def test_settings_may_be_numbers_of_numpy() -> None:
    seeded = replace(making(), seed=np.int64(3))  # type: ignore[arg-type]
    assert read_receipt(write_receipt(seeded, WRITING)).making.seed == 3


NEEDED = (
    "reading",
    "bundle",
    "engine",
    "pictures",
    "keyframes",
    "sounds",
    "beats",
)  # of a certain form


@pytest.mark.parametrize(
    "name", sorted(json.loads(write_receipt(making(), WRITING)).keys() - {"seal"})
)
def test_each_field_that_was_changed_is_named(name: str) -> None:
    content = json.loads(write_receipt(making(), WRITING))
    old = content[name]
    kinds = {str: "another", int: 99, bool: True, dict: {}, type(None): None}
    content[name] = kinds[type(old)]
    if content[name] == old:
        content[name] = "something"
    text = json.dumps(content)
    if name not in NEEDED:
        assert read_receipt(text).broken == (name,)
    else:
        with pytest.raises(ReceiptError, match="was changed"):
            read_receipt(text)


def test_a_seal_that_was_changed_is_named() -> None:
    content = json.loads(write_receipt(making(), WRITING))
    content["seal"]["whole"] = 64 * "0"
    assert read_receipt(json.dumps(content)).broken == ("seal",)
    content["seal"]["seed"] = 8 * "0"
    assert read_receipt(json.dumps(content)).broken == ("seed",)


@pytest.mark.parametrize("at", range(0, 4000, 97))
def test_no_byte_can_be_changed(at: int) -> None:
    text = write_receipt(making(), WRITING)
    at %= len(text)
    changed = f"{text[:at]}{chr(ord(text[at]) ^ 1)}{text[at + 1 :]}"
    assert looks_like_a_receipt(changed) or at == 0
    try:
        receipt = read_receipt(changed)
    except ReceiptError:
        return
    assert receipt.broken


def test_one_of_a_later_keyvid() -> None:
    text = write_receipt(making(), WRITING)
    assert "not of this keyvid" not in text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keyvid.provenance.receipt.VERSION", 2)
        later = write_receipt(making(), WRITING)
    with pytest.raises(ReceiptError, match="receipt 2 is not of this keyvid"):
        read_receipt(later)
    odd = write_receipt(replace(making(), num_frames="many"), WRITING)  # type: ignore[arg-type]
    with pytest.raises(ReceiptError, match="is not of this keyvid's form"):
        read_receipt(odd)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"seal":{}}', '{"seal":1}', "{" * 99_999]
)
def test_other_texts_are_none(text: str) -> None:
    with pytest.raises(ReceiptError):
        read_receipt(text)


def test_a_digest_is_of_type_shape_and_values() -> None:
    array = np.arange(6, dtype=np.float32)
    others = [array.reshape(2, 3), array.astype(np.float64), array + 1, array[::-1]]
    assert len({digest_of(one) for one in [array, *others]}) == 5
    assert digest_of(array.reshape(2, 3).T) == digest_of(np.array(array.reshape(2, 3).T))
    assert digest_of(array) == digest_of(array.astype(">f4")), "on every machine"


def test_a_trace_goes_on_after_an_interruption() -> None:
    first = Trace({})
    first.add("localizer", np.zeros(3))
    first.add("generator 1", np.ones(3))
    second = Trace(first.state)
    second.add("localizer", np.zeros(3))
    second.add("generator 2", np.ones(3))
    assert list(second.digests) == ["localizer", "generator 1", "generator 2"]
    assert second.digests["generator 1"] == second.digests["generator 2"]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "{", "[" * 99_999])
def test_a_trace_that_somebody_else_has_kept(text: str) -> None:
    with pytest.raises(ValueError, match=r"no digests|Expecting"):
        Trace({"stages": np.array(text)})
