"""An order on disk is the one that was written, and runs nothing when it is read."""

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.errors import SettingsError
from keyvid.serve.limits import Limits
from keyvid.serve.order import Order, take_order
from keyvid.serve.order_file import ARRAYS, ORDER, read_order, write_order
from tests.serve.conftest import EXAMPLES


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load("tiny")


def order_of(bundle: Bundle, **values: Any) -> Order:
    with (EXAMPLES / "drum.png").open("rb") as image, (EXAMPLES / "drum.wav").open("rb") as audio:
        return take_order(bundle, Limits(), image, audio, values)


def assert_same(one: Any, other: Any) -> None:
    """All fields of two dataclasses, those within fields too."""
    assert type(one) is type(other)
    if is_dataclass(one):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"prompt": "drum", "seed": 2**63 - 1, "scale": 3, "length": 0.5, "cfg_batch": 1},
        {"beats": "0.5,1.25", "end": "first", "fit": "pad", "position": "0.3,1", "start": "0.1"},
        {"keyframes": "uniform", "quality": "exact", "guidance_text": 0.1 + 0.2, "solver": "ddim"},
        {"motion": "packaged", "track": 1},
    ],
)
def test_an_order_is_read_as_it_was_written(
    bundle: Bundle, tmp_path: Path, values: dict[str, Any]
) -> None:
    order = order_of(bundle, **values)
    write_order(tmp_path, order, bundle)
    assert_same(read_order(tmp_path, bundle), order)


def test_an_order_for_another_bundle_says_so(bundle: Bundle, tmp_path: Path) -> None:
    write_order(tmp_path, order_of(bundle), bundle)
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"ordered from the bundle tiny.*order it again"):
        read_order(tmp_path, replace(bundle, path=tmp_path))


@pytest.mark.security
def test_an_order_that_is_none_runs_nothing(bundle: Bundle, tmp_path: Path) -> None:
    write_order(tmp_path, order_of(bundle), bundle)
    text = json.loads((tmp_path / ORDER).read_text())
    (tmp_path / ORDER).write_text(json.dumps({**text, "more": 1}))
    with pytest.raises(ValueError, match="more"):
        read_order(tmp_path, bundle)
    (tmp_path / ORDER).write_text(json.dumps(text))
    objects = np.array([{}], object)
    np.savez(tmp_path / ARRAYS, picture=objects, samples=objects, mono=objects)
    with pytest.raises(ValueError, match="allow_pickle"):
        read_order(tmp_path, bundle)
