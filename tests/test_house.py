"""Who may import whom: what docs/house.md says is how it is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "bundle": ROOT / "keyvid" / "bundle",
    "engines": ROOT / "keyvid" / "engines",
    "runtime": ROOT / "keyvid" / "runtime",
    "score": ROOT / "keyvid" / "score",
    "serve": ROOT / "keyvid" / "serve",
    "export": ROOT / "keyvid" / "export",
    "keyvid_ref": ROOT / "keyvid_ref",
    "bench": ROOT / "bench",
}
NAMES_ONLY = ROOT / "keyvid" / "__init__.py"  # imports of its own are for type checkers


def rooms_of_the_document() -> dict[str, set[str]]:
    """The table of docs/house.md: a room, and the rooms that it may import."""
    text = (ROOT / "docs" / "house.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", text, re.MULTILINE)
    return {room: set(re.findall(r"`(\w+)`", allowed)) for room, allowed in rows}


def room_of(module: str) -> str | None:
    """The room that a module is in, None for packages of others."""
    top, *rest = module.split(".")
    if top == "keyvid":
        return rest[0] if rest and rest[0] in FOLDERS else "face"
    return top if top in FOLDERS else None


def files_of(room: str) -> list[Path]:
    if room == "face":
        return sorted((ROOT / "keyvid").glob("*.py"))
    return sorted(FOLDERS[room].rglob("*.py")) if FOLDERS[room].is_dir() else []


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of each import, those for a type checker and those in functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "keyvid":
            yield from ((node.lineno, f"keyvid.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


ROOMS = rooms_of_the_document()


def test_the_document_names_all_rooms() -> None:
    assert set(ROOMS) == {"face", *FOLDERS}
    packages = {path.parent.name for path in (ROOT / "keyvid").glob("*/__init__.py")}
    assert packages <= set(ROOMS), "a room that the document does not know"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    allowed = ROOMS[room] | {room, None}
    strangers = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in files_of(room)
        for line, module in imports(path)
        if room_of(module) not in allowed and path != NAMES_ONLY
    ]
    assert not strangers


def test_the_document_allows_nothing_that_is_not_used() -> None:
    used = {
        (room, room_of(module))
        for room in ROOMS
        for path in files_of(room)
        for _, module in imports(path)
    }
    allowed = {(room, other) for room, others in ROOMS.items() for other in others}
    assert allowed <= used
