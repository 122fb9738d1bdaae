"""Memory: guidance branches per network call, and what may be open side by side."""

import logging
from collections.abc import Iterator
from operator import itemgetter

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import GraphSpec
from keyvid.engines.engine import form_for
from keyvid.engines.memory import available_bytes, engine_bytes, process_bytes
from keyvid.errors import SettingsError
from keyvid.runtime.diffusion.guidance import active_branches, batch_sizes, guidance_rows
from keyvid.sampling import UNETS, Sampling
from keyvid.sizes import format_size, format_sizes

# What graphs may take side by side where they lie in other memory than this process, which nobody
# has forecast: small models stay open as a whole, of large ones a graph at a time.
_ROOM_ELSEWHERE = 2**30

log = logging.getLogger(__name__)


class Budget:
    """What the graphs of a bundle take on an engine, and what there is for them.

    Args:
        max_memory: bytes that this process may take, None for what is free.
    """

    def __init__(self, bundle: Bundle, engine: str, max_memory: int | None = None) -> None:
        self._bundle = bundle
        self._engine = engine
        self._max_memory = max_memory
        self._held = process_bytes()  # without any graph
        self._is_here = engine_bytes(engine, next(_all_graphs(bundle)).memory, 0) is not None

    def bytes_of(self, graph: GraphSpec) -> int:
        """What the engine takes for `graph` at most."""
        size = self._bundle.files[graph.file].bytes
        here = engine_bytes(self._engine, graph.memory, size)
        return graph.memory.weights + graph.memory.values if here is None else here

    def room(self) -> int:
        """What all graphs together may take."""
        if not self._is_here:
            return _ROOM_ELSEWHERE
        return self._room_of_process() - self._held

    def choose_graphs(
        self, sampling: Sampling, cfg_batch: int | None = None
    ) -> dict[str, GraphSpec]:
        """The graph of each stage for a clip with `sampling`, so that each fits by itself.

        Of a U-Net it is the one with the best number of guidance branches per network call.

        Args:
            cfg_batch: the most branches that may go together; None leaves it to the memory.
        Raises:
            SettingsError: a stage does not fit; says how much the largest takes.
        """
        check_cfg_batch(self._bundle, cfg_batch)
        room = self._room_of_process()
        chosen: dict[str, GraphSpec] = {}
        lines: list[tuple[int, str]] = []
        too_large: list[tuple[int, str, GraphSpec]] = []
        for stage in self._bundle.stages:
            graphs = [*_graphs(self._bundle, stage, self._engine, sampling, cfg_batch)]
            needs = [self._held + self.bytes_of(graph) for graph in graphs]
            fits = [needed <= room or not self._is_here for needed in needs]
            if not any(fits):
                too_large.append((needs[-1], stage, graphs[-1]))
                continue
            taken = fits.index(True)
            graph = chosen[stage] = graphs[taken]
            if self._is_here:
                forecast = f"{graph.file}: at most {format_size(needs[taken])} of memory"
                lines.append((logging.INFO, forecast))
            if taken:
                fewer = f"{stage}: {_branches(graph)}, more do not fit in memory"
                lines.append((logging.WARNING, fewer))
        if too_large:
            needed, stage, graph = max(too_large, key=itemgetter(0))
            is_asked = self._max_memory is not None
            raise SettingsError(_refusal(stage, graph, needed, room, is_asked=is_asked))
        for level, line in lines:
            log.log(level, line)
        return chosen

    def _room_of_process(self) -> int:
        if self._max_memory is not None:
            return self._max_memory
        return process_bytes() + available_bytes()


def _all_graphs(bundle: Bundle) -> Iterator[GraphSpec]:
    return (graph for stage in bundle.stages.values() for graph in stage.graphs)


def _graphs(
    bundle: Bundle, stage: str, engine: str, sampling: Sampling, cfg_batch: int | None
) -> Iterator[GraphSpec]:
    """The graphs of a stage that could be taken, the best first."""
    form = form_for(engine)
    if stage not in UNETS:
        yield bundle.graph(stage, form=form)
        return
    rows = guidance_rows(sampling.of(stage)).values()
    active = max(len(active_branches(weights)) for weights in rows)
    temporal = sampling.temporal if stage == "interpolator" else None
    for branches in batch_sizes(active, bundle.branches(stage), cfg_batch):
        yield bundle.graph(stage, branches=branches, temporal=temporal, form=form)


def check_cfg_batch(bundle: Bundle, cfg_batch: int | None) -> None:
    """Refuse a number of guidance branches for which `bundle` has no graphs."""
    sizes = sorted(set(bundle.branches("generator")) & set(bundle.branches("interpolator")))
    if cfg_batch is not None and cfg_batch not in sizes:
        valid = ", ".join(map(str, sizes))
        raise SettingsError(f"cfg-batch {cfg_batch}: want one of {valid}")


def _refusal(stage: str, graph: GraphSpec, needed: int, room: int, *, is_asked: bool) -> str:
    """What to say when a stage does not fit, bytes of the whole process."""
    what = f" with {_branches(graph)}" if graph.branches else ""
    takes, has = format_sizes(needed, room)
    found = f"max-memory is {has}" if is_asked else f"{has} are there for this process"
    advice = "raise it" if is_asked else "end other programs, or try all the same with --max-memory"
    fewer = ", lower --cfg-batch" if (graph.branches or 1) > 1 else ""
    return f"{stage}: takes {takes} of memory{what}, {found}; {advice}{fewer}"


def _branches(graph: GraphSpec) -> str:
    return f"{graph.branches} guidance branch{'' if graph.branches == 1 else 'es'} a call"
