"""Who may import whom: what docs/house.md says is how it is, and nothing goes in a circle."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("keyvid", "keyvid_ref", "bench")
NAMES_ONLY = "keyvid"  # the imports of its `__init__.py` are for type checkers


def rooms_of_the_document() -> dict[str, set[str]]:
    """The table of docs/house.md: a room, and the rooms that it may import."""
    text = (ROOT / "docs" / "house.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \|[^|]*\|([^|]*)\|$", text, re.MULTILINE)
    return {room: set(re.findall(r"`([\w.]+)`", allowed)) for room, allowed in rows}


def modules() -> dict[str, Path]:
    """All modules, by name."""
    found = {}
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        names = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    return found


ROOMS = rooms_of_the_document()
MODULES = modules()


def folder_of(room: str) -> str:
    """The package that a room is."""
    if room == "face":
        return "keyvid"
    return room if room.split(".")[0] in PACKAGES else f"keyvid.{room}"


def room_of(module: str) -> str:
    """The innermost room that a module is in."""
    inside = [r for r in ROOMS if f"{module}.".startswith(f"{folder_of(r)}.")]
    return max(inside, key=lambda room: len(folder_of(room)))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of each import of ours, also for a type checker and in a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in MODULES else node.module


ARROWS = [(name, line, other) for name, path in MODULES.items() for line, other in imports(path)]


def test_the_document_names_all_rooms() -> None:
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    measurements = {name for name in packages if name.startswith("bench.")}  # one room
    assert {folder_of(room) for room in ROOMS} == packages - measurements


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    strangers = [
        f"{name}, line {line}, imports {other}"
        for name, line, other in ARROWS
        if room_of(name) == room
        and room_of(other) not in ROOMS[room] | {room}
        and name != NAMES_ONLY
    ]
    assert not strangers


def test_the_document_allows_nothing_that_is_not_used() -> None:
    used = {(room_of(name), room_of(other)) for name, _, other in ARROWS}
    allowed = {(room, other) for room, others in ROOMS.items() for other in others}
    assert allowed <= used


def test_no_circle_of_rooms() -> None:
    TopologicalSorter(ROOMS).prepare()  # its error names one


def test_no_circle_of_files() -> None:
    needs: dict[str, set[str]] = {}
    for name, _, other in ARROWS:
        needs.setdefault(name, set()).add(other)
    TopologicalSorter(needs).prepare()


def test_circles_are_seen() -> None:
    """Those that only a type checker or a function sees as well."""
    assert {line for line, _ in imports(ROOT / "keyvid" / "__init__.py")}
    lazy = dict.fromkeys(other for name, _, other in ARROWS if name.endswith("tensorrt.cache_cli"))
    assert "keyvid.engines.cache" in lazy


def test_no_link_in_the_package() -> None:
    assert [path for path in (ROOT / "keyvid").rglob("*") if path.is_symlink()] == []
