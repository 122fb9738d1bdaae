"""Fixture data: results of the released modules on weights that are made from names alone."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FIXTURES = Path(__file__).parent / "fixtures"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one process run what shares things that are slow to make: each file, and all exports."""
    for item in items:
        group = "export" if "export" in item.path.parts else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


def _load_fill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fixture_fill", FIXTURES / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_FILL = _load_fill()


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Graphs that are compiled here are kept for other tests, not for the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def fill() -> ModuleType:
    """The module fixtures/fill.py: `fill.tensor(name, shape)` is an input made from its name."""
    return _FILL


@pytest.fixture(scope="session")
def parity() -> Callable[[str], dict[str, np.ndarray]]:
    """`parity("vae")`: the arrays of vae.npz by name."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(FIXTURES / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def parity_keys() -> Callable[[str], dict[str, tuple[int, ...]]]:
    """`parity_keys("vae")`: the released state-dict entries and their shapes."""

    def load(name: str) -> dict[str, tuple[int, ...]]:
        keys = json.loads((FIXTURES / f"{name}.keys.json").read_text())
        return {key: tuple(shape) for key, shape in keys.items()}

    return load


@pytest.fixture(scope="session")
def relative_error() -> Callable[[object, object], float]:
    """`relative_error(got, want)`: ||got - want|| / ||want|| in float64."""

    def compute(got: object, want: object) -> float:
        a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
        assert a.shape == b.shape
        return float(np.linalg.norm(a - b) / np.linalg.norm(b))

    return compute
