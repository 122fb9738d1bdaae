"""Stands in for what the nodes import of ComfyUI, with the checks that its loader makes."""

import sys
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "integrations" / "comfyui"
NAME = "keyvid_for_comfyui"

# What the published schema lets an input and an output of each type say.
_OF_ALL = {"display_name", "optional", "tooltip"}
_OF_WIDGETS = {*_OF_ALL, "default"}
_ALLOWED = {
    "IMAGE": _OF_ALL,
    "AUDIO": _OF_ALL,
    "STRING": {*_OF_WIDGETS, "multiline"},
    "INT": {*_OF_WIDGETS, "min", "max", "control_after_generate"},
    "FLOAT": {*_OF_WIDGETS, "min", "max"},
    "COMBO": {*_OF_WIDGETS, "options"},
}


@dataclass
class Port:
    """An input or an output."""

    type: str
    id: str
    about: dict[str, Any] = field(default_factory=dict)


def _type(name: str) -> Any:
    def make_input(id: str, **about: Any) -> Port:
        assert set(about) <= _ALLOWED[name], f"{name} has no {set(about) - _ALLOWED[name]}"
        if name == "COMBO":
            assert about["default"] in about["options"]
        return Port(name, id, about)

    def make_output(id: str, *, display_name: str, tooltip: str) -> Port:
        return Port(name, id, {"display_name": display_name, "tooltip": tooltip})

    return SimpleNamespace(Input=make_input, Output=make_output)


@dataclass
class Schema:
    """What a node takes and gives."""

    node_id: str
    display_name: str
    category: str
    description: str
    inputs: list[Port]
    outputs: list[Port]

    def __post_init__(self) -> None:
        ids = [port.id for port in (*self.inputs, *self.outputs)]
        assert len(ids) == len(set(ids)), "an id may stand once"


class ComfyNode:
    """The base of all nodes."""


class ComfyExtension:
    """The base of what is loaded."""


class NodeOutput(tuple):
    """What a node gives."""

    def __new__(cls, *values: Any) -> "NodeOutput":
        return super().__new__(cls, values)


@dataclass
class Video:
    """A video that lies in a file."""

    file: Any


class CancelledError(Exception):
    """Raised where the user has pressed Cancel."""


@dataclass
class Comfy:
    """What happens in ComfyUI.

    Attributes:
        shown: how far the node said it was, of 1.
        cancel_at: how far it is when the user presses Cancel.
    """

    shown: list[float] = field(default_factory=list)
    cancel_at: float = 2.0

    def update(self, value: int, total: int) -> None:
        self.shown.append(value / total)

    def throw_if_cancelled(self) -> None:
        if self.shown and self.shown[-1] >= self.cancel_at:
            raise CancelledError


def install(patch: pytest.MonkeyPatch) -> tuple[Comfy, ModuleType]:
    """Put the stand-in among the modules, and load the nodes as ComfyUI does."""
    comfy = Comfy()

    def module(name: str, **content: Any) -> ModuleType:
        made = ModuleType(name)
        vars(made).update(content)
        patch.setitem(sys.modules, name, made)
        return made

    types = {name.title(): _type(name.upper()) for name in ("image", "audio", "video", "string")}
    types |= {"Int": _type("INT"), "Float": _type("FLOAT"), "Combo": _type("COMBO")}
    io = SimpleNamespace(ComfyNode=ComfyNode, NodeOutput=NodeOutput, Schema=Schema, **types)
    given = SimpleNamespace(VideoFromFile=Video)
    module("comfy_api")
    module("comfy_api.latest", io=io, InputImpl=given, ComfyExtension=ComfyExtension)

    bar = SimpleNamespace(update_absolute=comfy.update)
    utils = module("comfy.utils", ProgressBar=lambda total: bar)
    management = module(
        "comfy.model_management",
        throw_exception_if_processing_interrupted=comfy.throw_if_cancelled,
    )
    module("comfy", utils=utils, model_management=management)

    for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
        patch.delitem(sys.modules, name)
    spec = spec_from_file_location(
        NAME, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert spec is not None
    assert spec.loader is not None
    loaded = module_from_spec(spec)
    patch.setitem(sys.modules, NAME, loaded)
    spec.loader.exec_module(loaded)
    return comfy, loaded
