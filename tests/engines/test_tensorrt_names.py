"""Every name of TensorRT in the code is one of its API; and so is every one of the stand-in."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
API: dict[str, list[str]] = json.loads((HERE / "fakes" / "tensorrt_api.json").read_text())[
    "classes"
]
ENGINES = HERE.parents[1] / "engines"
MODULES = ["tensorrt_builder.py", "tensorrt_engine.py"]
# Names of variables in these modules, and what they are. `trt` is the package.
VARIABLES = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "error": "ParserError",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "runtime": "Runtime",
    "tensor": "ITensor",
    "timing_cache": "ITimingCache",
}
MONITOR = {"phase_start", "step_complete", "phase_finish"}


def names(module: str) -> Iterator[tuple[str, str]]:
    """Class and member, or class and "", of each use of TensorRT."""
    for node in ast.walk(ast.parse((ENGINES / module).read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_tensorrt()"):
            continue
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        if isinstance(owner, ast.Name) and owner.id == "trt":
            yield node.attr, ""
        elif isinstance(owner, ast.Name) and owner.id in VARIABLES:
            yield VARIABLES[owner.id], node.attr
        elif isinstance(owner, ast.Attribute) and ast.unparse(owner.value) == "trt":
            yield owner.attr, node.attr


@pytest.mark.parametrize("module", MODULES)
def test_each_name_is_one_of_tensorrt(module: str) -> None:
    found = set(names(module)) - {("__version__", "")}
    assert len(found) > 10
    unknown = {f"{owner}.{member}" for owner, member in found if owner not in API}
    unknown |= {
        f"{owner}.{member}"
        for owner, member in found
        if member and member not in [*API.get(owner, []), "__init__"]
    }
    # `error` is also the name of exceptions, which have an attribute of ours.
    assert unknown - {"ParserError.again"} == set()


def test_the_walk_sees_what_it_should() -> None:
    found = set(names("tensorrt_builder.py"))
    assert ("Builder", "build_serialized_network") in found
    assert ("MemoryPoolType", "WORKSPACE") in found
    assert ("ParserError", "node_operator") in found
    assert ("ICudaEngine", "get_tensor_name") in set(names("tensorrt_engine.py"))


def test_no_object_of_tensorrt_has_another_name() -> None:
    """What the package makes is kept in variables that the walk knows."""
    for module in MODULES:
        for node in ast.walk(ast.parse((ENGINES / module).read_text())):
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
                continue
            maker = ast.unparse(node.value.func)
            root = maker.split(".")[0]
            if "." in maker and (root == "trt" or root in VARIABLES):
                (target,) = node.targets
                known = {*VARIABLES, "logger", "plan", "name"}
                assert ast.unparse(target).split(".")[0] in known, ast.unparse(node)


def test_the_monitor_overrides_what_there_is() -> None:
    assert set(API["IProgressMonitor"]) == MONITOR
    tree = ast.parse((ENGINES / "tensorrt_builder.py").read_text())
    (monitor,) = (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "Monitor")
    methods = {n.name for n in monitor.body if isinstance(n, ast.FunctionDef)}
    assert methods - {"__init__"} == MONITOR


def test_only_these_modules_use_tensorrt() -> None:
    users = {
        path.name
        for path in ENGINES.glob("*.py")
        if "import_tensorrt()" in path.read_text() and path.name != "backend.py"
    }
    assert users == {*MODULES, "tensorrt_plan.py"}
    assert (ENGINES / "tensorrt_plan.py").read_text().count("import_tensorrt().") == 1


def test_the_stand_in_promises_nothing_else() -> None:
    tree = ast.parse((HERE / "fakes" / "trt.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            own = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
            own |= {
                ast.unparse(t) for n in node.body if isinstance(n, ast.Assign) for t in n.targets
            }
            public = {name for name in own if not name.startswith("_")}
            assert public <= set(API[node.name]), node.name
        elif isinstance(node, ast.Assign) and "Enum(" in ast.unparse(node):
            enum, members = ast.literal_eval(node.value.args[0]), node.value.args[1]
            assert set(ast.literal_eval(members)) <= set(API[enum])
