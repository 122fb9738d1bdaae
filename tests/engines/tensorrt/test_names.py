"""Every name of TensorRT in the code is one of both libraries; and so is every one of the stand-in.

That of TensorRT is known from the sources of its bindings, that of TensorRT for RTX from itself.
"""

import ast
import importlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.engines.rtx import needs_rtx

FAKES = Path(__file__).parents[1] / "fakes"
API: dict[str, list[str]] = json.loads((FAKES / "tensorrt_api.json").read_text())["classes"]
# Bound as an object of its own in the sources, which the list does not look into.
API["ILogger"] = ["log", "Severity"]
SOURCES = Path(__file__).parents[3] / "keyvid" / "engines"
MODULES = ["builder.py", "engine.py", "library.py"]
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
    "runtime_cache": "IRuntimeCache",
    "runtime_config": "IRuntimeConfig",
    "tensor": "ITensor",
    "timing_cache": "ITimingCache",
}
# What only plans for GPUs that are elsewhere need.
ONLY_RTX = {
    ("ComputeCapability", ""),
    ("CudaGraphStrategy", ""),
    ("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE"),
    ("IBuilderConfig", "num_compute_capabilities"),
    ("IBuilderConfig", "set_compute_capability"),
    ("IRuntimeConfig", "create_runtime_cache"),
    ("IRuntimeConfig", "cuda_graph_strategy"),
    ("IRuntimeConfig", "set_runtime_cache"),
    ("IRuntimeCache", "deserialize"),
    ("IRuntimeCache", "serialize"),
}
MONITOR = {"phase_start", "step_complete", "phase_finish"}


def names(module: str) -> Iterator[tuple[str, str]]:
    """Class and member, or class and "", of each use of TensorRT."""
    for node in ast.walk(ast.parse((SOURCES / "tensorrt" / module).read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        if isinstance(owner, ast.Name) and owner.id == "trt":
            yield node.attr, ""
        elif isinstance(owner, ast.Name) and owner.id in VARIABLES:
            yield VARIABLES[owner.id], node.attr
        elif isinstance(owner, ast.Attribute) and ast.unparse(owner.value) == "trt":
            yield owner.attr, node.attr


def used() -> set[tuple[str, str]]:
    # `error` is also the name of exceptions, which have an attribute of ours.
    found = {name for module in MODULES for name in names(module)}
    return found - {("ParserError", "again")}


def unknown(members: Callable[[str], list[str] | None], found: set[tuple[str, str]]) -> set[str]:
    """Those of `found` that a library lacks; `members` gives what a class of it has."""
    wrong = set()
    for owner, member in found:
        known = members(owner)
        if known is None or (member and member not in [*known, "__init__"]):
            wrong.add(f"{owner}.{member}")
    return wrong


def test_each_name_is_one_of_tensorrt() -> None:
    found = used()
    assert found >= ONLY_RTX
    assert len(found) > 50
    assert unknown(API.get, found - ONLY_RTX) == set()


@needs_rtx
def test_each_name_is_one_of_tensorrt_for_rtx() -> None:
    package = importlib.import_module("tensorrt_rtx")

    def members(name: str) -> list[str] | None:
        return dir(getattr(package, name)) if hasattr(package, name) else None

    assert unknown(members, used()) == set()
    context = package.ICudaEngine.create_execution_context.__doc__
    assert "runtime_config: " in context  # the name by which it is given


def test_the_walk_sees_what_it_should() -> None:
    found = used()
    assert ("Builder", "build_serialized_network") in found
    assert ("MemoryPoolType", "WORKSPACE") in found
    assert ("ParserError", "node_operator") in found
    assert ("ICudaEngine", "get_tensor_name") in found


def test_no_object_of_tensorrt_has_another_name() -> None:
    """What the package makes is kept in variables that the walk knows."""
    for module in MODULES:
        for node in ast.walk(ast.parse((SOURCES / "tensorrt" / module).read_text())):
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
    tree = ast.parse((SOURCES / "tensorrt" / "builder.py").read_text())
    (monitor,) = (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "Monitor")
    methods = {n.name for n in monitor.body if isinstance(n, ast.FunctionDef)}
    assert methods - {"__init__"} == MONITOR


def test_only_these_modules_use_tensorrt() -> None:
    users = [path for path in SOURCES.rglob("*.py") if re.search(r"\btrt\.", path.read_text())]
    assert sorted(users) == [SOURCES / "tensorrt" / module for module in MODULES]


def test_the_stand_in_promises_nothing_else() -> None:
    known = API | {
        "CudaGraphStrategy": ["DISABLED", "WHOLE_GRAPH_CAPTURE"],
        "IRuntimeConfig": ["cuda_graph_strategy", "create_runtime_cache", "set_runtime_cache"],
        "IRuntimeCache": ["deserialize", "serialize"],
    }
    tree = ast.parse((FAKES / "trt.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            own = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
            own |= {
                ast.unparse(t) for n in node.body if isinstance(n, ast.Assign) for t in n.targets
            }
            public = {name for name in own if not name.startswith("_")}
            assert public <= set(known[node.name]), node.name
        elif isinstance(node, ast.Assign) and "Enum(" in ast.unparse(node):
            enum, members = ast.literal_eval(node.value.args[0]), node.value.args[1]
            assert set(ast.literal_eval(members)) <= set(known[enum])
