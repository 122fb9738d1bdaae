"""Engines: running one graph of a bundle on a backend, and choosing the backend."""

import importlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keyvid.bundle.external_data import check_external_data, without_links
from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import Form, GraphSpec, TensorSpec
from keyvid.engines.backend import first_line
from keyvid.engines.memory import MemoryExceededError, memory_allowed
from keyvid.engines.spec import ENGINES, LARGE_BYTES, EngineSpec
from keyvid.errors import BundleError, EngineError, SettingsError
from keyvid.sizes import format_size

AUTO = "auto"
_DAMAGED_ADVICE = "; copy or export the bundle again, or take another --engine"

log = logging.getLogger(__name__)


class Runner(Protocol):
    """A graph loaded by a backend; its inputs have been checked."""

    def tensors(self) -> dict[str, TensorSpec]:
        """Inputs and outputs by name, as the graph has them."""

    def set_input(self, name: str, value: np.ndarray) -> None:
        """Use `value` in all runs until it is set again.

        It is C-contiguous, and the caller keeps it alive.
        """

    def run(self) -> dict[str, np.ndarray]:
        """Outputs by name, float32, owned by the caller."""

    def close(self) -> None:
        """Free what the backend holds."""


class Engine:
    """A callable stage: `engine(**inputs)` returns its outputs by name.

    Attributes:
        name: name of the engine, as in `ENGINES`.

    Args:
        memory: most bytes that a call takes, None if unknown.
    """

    def __init__(
        self, name: str, graph: GraphSpec, runner: Runner, memory: int | None = None
    ) -> None:
        self.name = name
        self._memory = memory
        self._graph = graph
        self._runner = runner
        self._bound: dict[str, np.ndarray] = {}

    def bind(self, **inputs: np.ndarray) -> None:
        """Set inputs that stay the same in all later calls; each is copied once."""
        for name, value in inputs.items():
            self._bound[name] = np.array(self._checked(name, value))
            self._runner.set_input(name, self._bound[name])

    def unbind(self) -> None:
        """Forget all bound inputs."""
        self._bound.clear()

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, float32, for `inputs` and the bound ones.

        Raises:
            EngineError: an input is missing, unknown, bound already or of another dtype or shape;
                or the backend failed.
        """
        given = {name: self._checked(name, value) for name, value in inputs.items()}
        if twice := given.keys() & self._bound.keys():
            raise EngineError(
                f"{self._graph.file}: input {min(twice)!r} is bound; bind it again instead"
            )
        if missing := self._graph.inputs.keys() - given.keys() - self._bound.keys():
            raise EngineError(
                f"{self._graph.file}: input {min(missing)!r} is missing; "
                f"it takes {', '.join(self._graph.inputs)}"
            )
        try:
            with memory_allowed(self._memory):
                for name, value in given.items():
                    self._runner.set_input(name, value)
                return self._runner.run()
        except MemoryExceededError as error:
            raise BundleError(_too_much(self._graph.file, self._memory)) from error
        except Exception as error:  # backends raise what they like
            raise EngineError(
                f"{self._graph.file}: engine {self.name} failed: {first_line(error)}"
            ) from error

    def close(self) -> None:
        """Free the graph and its weights; the engine cannot be called afterwards."""
        self._bound.clear()
        self._runner.close()

    def _checked(self, name: str, value: np.ndarray) -> np.ndarray:
        spec = self._graph.inputs.get(name)
        if spec is None:
            raise EngineError(
                f"{self._graph.file}: unknown input {name!r}; "
                f"it takes {', '.join(self._graph.inputs)}"
            )
        found = TensorSpec.found(value.dtype.name, value.shape)
        if found != spec:
            raise EngineError(f"{self._graph.file}: input {name!r} is {found}, want {spec}")
        return np.ascontiguousarray(value)


@dataclass(frozen=True)
class EngineStatus:
    """Whether an engine can be used here; `detail` is what it runs on, or why it cannot."""

    name: str
    available: bool
    detail: str


@dataclass(frozen=True)
class EngineChoice:
    """An engine that can be used here, and why it was taken."""

    name: str
    reason: str

    @property
    def spec(self) -> EngineSpec:
        """All that is known of the engine."""
        return ENGINES[self.name]


def probe_engine(name: str) -> EngineStatus:
    """Whether the engine `name` of `ENGINES` can be used here; imports its backend."""
    spec = ENGINES[name]
    try:
        return EngineStatus(name, True, _backend(spec).probe(spec))
    except EngineError as error:
        return EngineStatus(name, False, str(error))


def choose_engine(name: str = AUTO, bundle: Bundle | None = None) -> EngineChoice:
    """The engine of that name, or for "auto" the first of `ENGINES` that can be used here.

    Args:
        bundle: what it is for; "auto" tries the engines in another order where that is large.
    Raises:
        EngineError: the engine is unknown or cannot be used, or for "auto" none can.
    """
    if name in ENGINES:
        status = probe_engine(name)
        if not status.available:
            raise EngineError(f"engine {name} cannot be used: {status.detail}")
        return EngineChoice(name, f"asked for; {status.detail}")
    if name != AUTO:
        raise EngineError(f"unknown engine {name!r}; valid are {', '.join((AUTO, *ENGINES))}")
    passed_over: list[str] = []
    for candidate in _preferred(bundle):
        status = probe_engine(candidate)
        if status.available:
            reason = "; ".join(["first that works here", status.detail, *passed_over])
            return EngineChoice(candidate, reason)
        why, *_ = status.detail.split(";")  # what to do about it, keyvid-doctor says
        passed_over.append(f"not {candidate}: {why}")
    raise EngineError(f"no engine can be used: {'; '.join(passed_over)}")


def _preferred(bundle: Bundle | None) -> list[str]:
    """`ENGINES` in the order in which "auto" tries them."""
    size = sum(file.bytes for file in bundle.files.values()) if bundle else 0
    if size >= LARGE_BYTES:
        return sorted(ENGINES, key=lambda name: ENGINES[name].order_of_large)
    return sorted(ENGINES, key=lambda name: ENGINES[name].order)


def open_engine(
    bundle: Bundle,
    stage: str,
    *,
    engine: str = AUTO,
    branches: int | None = None,
    temporal: str | None = None,
    form: Form | None = None,
    threads: int | None = None,
) -> Engine:
    """The stage of `bundle` made callable.

    Args:
        engine: "auto" or a name in `ENGINES`.
        branches, temporal: which graph of the stage, where it has several.
        form: of the graph; None for the one that is made for the engine, or plain if there is none.
        threads: as for `open_graph`.

    Raises:
        BundleError: there is no such graph; and as `open_graph`.
        EngineError: the engine cannot be used, or cannot load the graph.
    """
    spec = choose_engine(engine, bundle).spec
    graph = bundle.graph(stage, branches=branches, temporal=temporal, form=form or spec.form)
    return open_graph(bundle, stage, graph, spec, threads)


def open_graph(
    bundle: Bundle, stage: str, graph: GraphSpec, spec: EngineSpec, threads: int | None = None
) -> Engine:
    """A graph of a stage of `bundle` made callable by an engine that can be used here.

    Args:
        spec: the engine, see `choose_engine`.
        threads: CPU threads of a call, None for the backend's own choice.

    Raises:
        BundleError: the graph reads files that it should not, asks for much more memory than
            `bundle.json` leads to expect, or its tensors are not those that it states.
        EngineError: the engine cannot load the graph.
    """
    if threads is not None and threads < 1:
        raise SettingsError(f"threads {threads}: want at least 1")
    if graph.form == "plain" != spec.form:
        log.warning(
            "%s: a graph for all engines, which %s runs slower than its own; "
            "keyvid-export --for %s makes those",
            graph.file,
            spec.name,
            spec.form,
        )
    check_external_data(bundle, graph.file)
    path = bundle.path.resolve() / graph.file
    size = path.stat().st_size
    memory = spec.footprint.bytes_of(graph.memory, size) if spec.footprint else None
    try:
        with without_links(path) as plain, memory_allowed(memory):
            runner = _backend(spec).load(spec, plain, threads)
        found = runner.tensors()
    except BundleError:
        raise
    except MemoryExceededError as error:
        raise BundleError(_too_much(str(path), memory)) from error
    except Exception as error:  # backends raise what they like
        advice = "" if isinstance(error, EngineError) else _DAMAGED_ADVICE
        reason = f"{first_line(error)}{advice}"
        raise EngineError(f"{path}: engine {spec.name} cannot load it: {reason}") from error
    try:
        _check_tensors(found, graph, f"{path}: {stage}")
    except BundleError:
        runner.close()
        raise
    return Engine(spec.name, graph, runner, memory)


def _too_much(where: str, memory: int | None) -> str:
    return (
        f"{where}: asks for much more memory than the {format_size(memory or 0)} that bundle.json "
        "leads to expect; export it again with keyvid-export, or do not trust this bundle"
    )


def _check_tensors(found: dict[str, TensorSpec], graph: GraphSpec, where: str) -> None:
    stated = graph.inputs | graph.outputs
    for name in sorted(found.keys() | stated.keys()):
        if found.get(name) != stated.get(name):
            raise BundleError(
                f"{where} tensor {name!r} is {found.get(name)}, bundle.json says "
                f"{stated.get(name)}; export it again with keyvid-export"
            )


class Backend(Protocol):
    """A module that a row of `ENGINES` names."""

    def probe(self, spec: EngineSpec) -> str:
        """Version and device in words; an EngineError says why the engine cannot be used."""

    def load(self, spec: EngineSpec, path: Path, threads: int | None) -> Runner:
        """The ONNX graph at the absolute `path`, compiled."""


def _backend(spec: EngineSpec) -> Backend:
    module: Any = importlib.import_module(spec.module)
    backend: Backend = module
    return backend
