"""What the documents name is there: files, modules, functions, tests, options."""

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import click
import pytest

from keyvid.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
DOCUMENTS.remove(ROOT / "CHANGELOG.md")  # tells of what was, too
ROOMS = ["keyvid", "keyvid_ref", "bench", "tests", "docs"]
LINKS = ["engines", "export", "runtime", "examples"]
# Options of pip, pytest-xdist and programs for containers.
OF_OTHERS = [
    *("--cap-drop", "--dist", "--format", "--no-deps", "--only-binary", "--read-only"),
    *("--require-hashes", "--security-opt", "--tmpfs"),
]


def _named(document: Path) -> str:
    """All that stands between backticks, and in blocks of code."""
    text = document.read_text()
    blocks = re.findall(r"^```.*?^```|^(?: {4}.*\n)+", text, re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", text)])


@cache
def _definitions(path: Path) -> set[str]:
    """Names that a module defines, those in its classes as Class.name."""
    found: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                found.add(prefix + node.name)
                visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(prefix + node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(prefix + node.target.id)
            elif isinstance(node, ast.Assign):
                found.update(prefix + t.id for t in node.targets if isinstance(t, ast.Name))

    visit(ast.parse(path.read_text()).body, "")
    return found


def _exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or something that one defines."""
    place, names = ROOT, dotted.split(".")
    while names and (place / names[0]).is_dir():
        place /= names.pop(0)
    if not names:
        return True
    if (module := place / f"{names[0]}.py").is_file():
        rest = ".".join(names[1:])
        return not rest or rest in _definitions(module)
    return ".".join(names) in (_definitions(place / "__init__.py") | {"__version__"})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_are_there(document: Path) -> None:
    tops = "|".join([*ROOMS, *LINKS])
    paths = re.findall(rf"(?<![\w./~-])((?:{tops})/[\w./-]*)", _named(document))
    assert [path for path in paths if not (ROOT / path.rstrip(".")).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_modules_and_what_they_define_are_there(document: Path) -> None:
    names = re.findall(r"(?<![\w./-])((?:keyvid|keyvid_ref|bench)(?:\.\w+)+)", _named(document))
    assert [name for name in names if not _exists(name)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tests_are_there(document: Path) -> None:
    files = list((ROOT / "tests").rglob("test_*.py")) + list((ROOT / "bench").rglob("test_*.py"))
    known = {path.stem for path in files}.union(*map(_definitions, files))
    assert set(re.findall(r"\btest_\w+", document.read_text())) <= known


@cache
def _options() -> set[str]:
    """Of all commands of the package, of the training and of the benchmarks."""
    found = {"--help", "--version", *OF_OTHERS}
    for entry in COMMANDS.values():
        for command in vars(import_module(entry.module)).values():
            if isinstance(command, click.Command):
                found.update(name for param in command.params for name in param.opts)
                found.update(name for param in command.params for name in param.secondary_opts)
                for part in getattr(command, "commands", {}).values():
                    found.update(name for param in part.params for name in param.opts)
    for folder in ("keyvid_ref", "bench"):
        for path in (ROOT / folder).rglob("*.py"):
            found.update(re.findall(r'"(--[a-z][\w-]*)', path.read_text()))
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_options_are_there(document: Path) -> None:
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", _named(document))) <= _options()


def test_what_the_table_of_fidelity_names_is_defined() -> None:
    """As `module:name`, where the module is the end of a path."""
    modules = {
        path.with_suffix("").as_posix(): path
        for room in ("keyvid", "keyvid_ref")
        for path in (ROOT / room).rglob("*.py")
    }
    missing = []
    for place, name in re.findall(r"`([\w/.]+):([\w.]+)`", (ROOT / "docs/fidelity.md").read_text()):
        ending = f"/{place.removesuffix('.py')}"
        # A room stands for its modules, such as `media:write_video`.
        paths = [p for m, p in modules.items() if m.endswith(ending) or f"{ending}/" in m]
        if (place, name) != ("module", "function") and not any(
            name in _definitions(path) for path in paths
        ):
            missing.append(f"{place}:{name}")
    assert missing == []
