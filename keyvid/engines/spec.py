"""The engines: a row of `ENGINES` says all that others know of one."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from keyvid.bundle.specs import Form, GraphMemory


@dataclass(frozen=True)
class Footprint:
    """What an engine makes of a graph's own needs.

    The factors of weights and values were measured with the published U-Nets, the others with
    every stage of the packaged bundle, each in a process of its own.

    Attributes:
        base: bytes that any graph takes.
        graph: bytes for each byte of the ONNX file: its nodes, and the code that is made of them.
        weights: copies of the weights; those that it had to cast count once more.
        values: of the values.
        keeps_scores: whether attention writes its scores to memory.
    """

    base: int
    graph: float
    weights: float
    values: float
    keeps_scores: bool

    def bytes_of(self, graph: GraphMemory, file_bytes: int) -> int:
        """What the engine takes at most to load and run a graph.

        Args:
            file_bytes: size of the ONNX file.
        """
        values = graph.values + (graph.scores if self.keeps_scores else 0)
        return round(
            self.base
            + self.graph * file_bytes
            + self.weights * graph.weights
            + graph.cast
            + self.values * values
        )


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """An engine, without its backend being imported. No field has a default: each is decided.

    Attributes:
        name: as `--engine` takes it.
        module: has `probe` and `load`, see `keyvid.engines.engine.Backend`.
        extra: of keyvid, which installs what the engine needs.
        distributions: packages whose versions decide what it computes; of those that exclude each
            other one is installed.
        device: what it computes on.
        form: graphs that are made for it, where a bundle has them.
        footprint: what it takes of this machine's memory, None for one that takes a GPU's.
        tolerance: relative error of a graph that it explains, None if the graph's precision does.
        order: place among those that "auto" tries, the lowest first.
        order_of_large: the same for a model of `LARGE_BYTES`.
        cards: GPUs that it is for, "" for one that needs none.
    """

    name: str
    module: str
    extra: str
    distributions: tuple[str, ...]
    device: Literal["cpu", "gpu"]
    form: Form
    footprint: Footprint | None
    tolerance: float | None
    order: int
    order_of_large: int
    cards: str

    def versions(self) -> dict[str, str]:
        """Versions of those of its distributions that are installed."""
        found = installed_versions(self.distributions)
        return {name: version for name, version in found.items() if version is not None}


def installed_versions(distributions: Iterable[str]) -> dict[str, str | None]:
    """Version of each distribution, None for one that is not installed."""
    versions: dict[str, str | None] = {}
    for name in distributions:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


# On a CPU with bfloat16, a clip of a model of that size takes minutes less with it.
LARGE_BYTES = 2**30

_TENSORRT = "keyvid.engines.tensorrt.engine"
_OPENVINO = "keyvid.engines.openvino_engine"
_ONNXRUNTIME = "keyvid.engines.onnxruntime_engine"
_OPENVINO_FOOTPRINT = Footprint(45_000_000, 200, 1.1, 1.0, False)
_TENSORRT_CARDS = "compute capability 7.5 and newer"

# "auto" prefers, on a GPU, those that compute as the graph says; on a CPU float32 to bfloat16,
# which errs by some percent, unless the model is large.
_ROWS = (
    EngineSpec(
        name="tensorrt",
        module=_TENSORRT,
        extra="tensorrt",
        distributions=("tensorrt", "cuda-python"),
        device="gpu",
        form="plain",
        footprint=None,
        tolerance=None,
        order=1,
        order_of_large=1,
        cards=_TENSORRT_CARDS,
    ),
    EngineSpec(
        name="tensorrt-rtx",
        module=_TENSORRT,
        extra="rtx",
        distributions=("tensorrt-rtx-cu13", "cuda-python"),
        device="gpu",
        form="plain",
        footprint=None,
        tolerance=None,
        order=2,
        order_of_large=2,
        cards="compute capability 7.5, 8.0, 8.6, 8.9, 12.0 and 12.1: GeForce and RTX cards from "
        "2018 on, A100; not 9.0 (H100, H200), not 10.x",
    ),
    EngineSpec(
        name="cuda",
        module=_ONNXRUNTIME,
        extra="cuda",
        distributions=("onnxruntime-gpu",),
        device="gpu",
        form="cuda",
        footprint=None,
        tolerance=None,
        order=3,
        order_of_large=3,
        cards="compute capability 7.5 and newer, as CUDA 13",
    ),
    EngineSpec(
        name="openvino",
        module=_OPENVINO,
        extra="cpu",
        distributions=("openvino",),
        device="cpu",
        form="plain",
        footprint=_OPENVINO_FOOTPRINT,
        tolerance=None,
        order=4,
        order_of_large=5,
        cards="",
    ),
    EngineSpec(
        name="onnxruntime",
        module=_ONNXRUNTIME,
        extra="cpu",
        distributions=("onnxruntime", "onnxruntime-gpu"),
        device="cpu",
        form="plain",
        footprint=Footprint(20_000_000, 20, 2.1, 6.5, True),
        tolerance=None,
        order=5,
        order_of_large=6,
        cards="",
    ),
    EngineSpec(
        name="openvino-bf16",
        module=_OPENVINO,
        extra="cpu",
        distributions=("openvino",),
        device="cpu",
        form="plain",
        footprint=_OPENVINO_FOOTPRINT,  # as float32 at most
        tolerance=1e-1,  # bfloat16 keeps 8 bits, whatever the graph's precision
        order=6,
        order_of_large=4,
        cards="",
    ),
    EngineSpec(
        name="tensorrt-streaming",
        module=_TENSORRT,
        extra="tensorrt",
        distributions=("tensorrt", "cuda-python"),
        device="gpu",
        form="plain",
        footprint=None,
        tolerance=None,
        order=7,
        order_of_large=7,
        cards=_TENSORRT_CARDS,
    ),
)
ENGINES = {spec.name: spec for spec in _ROWS}
DISTRIBUTIONS = tuple(dict.fromkeys(name for spec in _ROWS for name in spec.distributions))
