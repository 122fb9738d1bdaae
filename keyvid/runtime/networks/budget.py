"""Memory: guidance branches per network call, and what may be open side by side."""

import logging
from collections.abc import Iterator, Mapping
from operator import itemgetter

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import GraphSpec
from keyvid.engines.memory import available_bytes, process_bytes
from keyvid.engines.spec import EngineSpec
from keyvid.errors import SettingsError
from keyvid.remarks import remark
from keyvid.sampling import Temporal
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

    def __init__(self, bundle: Bundle, spec: EngineSpec, max_memory: int | None = None) -> None:
        self._bundle = bundle
        self._spec = spec
        self._max_memory = max_memory
        self._held = process_bytes()  # without any graph

    def bytes_of(self, graph: GraphSpec) -> int:
        """What the engine takes for `graph` at most."""
        if self._spec.footprint is None:
            return graph.memory.weights + graph.memory.values
        return self._spec.footprint.bytes_of(graph.memory, self._bundle.files[graph.file].bytes)

    def room(self) -> int:
        """What all graphs together may take."""
        if self._spec.footprint is None:
            return _ROOM_ELSEWHERE
        return self._room_of_process() - self._held

    def choose_graphs(
        self, active: Mapping[str, int], temporal: Temporal, cfg_batch: int | None = None
    ) -> dict[str, GraphSpec]:
        """The graph of each stage for a clip, so that each fits by itself.

        Of a U-Net it is the one with the best number of guidance branches per network call.

        Args:
            active: of each U-Net the most branches that a step runs.
            temporal: the interpolator's attention.
            cfg_batch: the most branches that may go together; None leaves it to the memory.
        Raises:
            SettingsError: a stage does not fit; says how much the largest takes.
        """
        check_cfg_batch(self._bundle, cfg_batch)
        is_here = self._spec.footprint is not None
        room = self._room_of_process()
        chosen: dict[str, GraphSpec] = {}
        forecasts: list[str] = []
        reduced: list[str] = []
        too_large: list[tuple[int, str, GraphSpec]] = []
        for stage in self._bundle.stages:
            graphs = [*self._candidates(stage, active.get(stage), temporal, cfg_batch)]
            needs = [self._held + self.bytes_of(graph) for graph in graphs]
            fits = [needed <= room or not is_here for needed in needs]
            if not any(fits):
                too_large.append((needs[-1], stage, graphs[-1]))
                continue
            taken = fits.index(True)
            graph = chosen[stage] = graphs[taken]
            if is_here:
                forecasts.append(f"{graph.file}: at most {format_size(needs[taken])} of memory")
            if taken:
                reduced.append(f"{stage}: {_branches(graph)}, more do not fit in memory")
        if too_large:
            needed, stage, graph = max(too_large, key=itemgetter(0))
            is_asked = self._max_memory is not None
            raise SettingsError(_refusal(stage, graph, needed, room, is_asked=is_asked))
        for line in forecasts:
            log.info("%s", line)
        for line in reduced:
            remark(line)
        return chosen

    def _candidates(
        self, stage: str, active: int | None, temporal: Temporal, cfg_batch: int | None
    ) -> Iterator[GraphSpec]:
        """The graphs of a stage that could be taken, the best first."""
        form, bundle = self._spec.form, self._bundle
        if active is None:
            yield bundle.graph(stage, form=form)
            return
        mode = temporal if stage == "interpolator" else None
        for branches in batch_sizes(active, bundle.branches(stage), cfg_batch):
            yield bundle.graph(stage, branches=branches, temporal=mode, form=form)

    def _room_of_process(self) -> int:
        if self._max_memory is not None:
            return self._max_memory
        return process_bytes() + available_bytes()


def batch_sizes(active: int, exported: tuple[int, ...], wanted: int | None) -> tuple[int, ...]:
    """Branches per network call that suit `active` ones, the best first.

    Args:
        exported: batches that there are graphs for.
        wanted: the most at a time; None for those with the fewest branches in vain, the largest
            of them and then ever smaller ones.
    """
    most = min(active, wanted or max(exported), max(exported))
    best = min(size for size in exported if size >= most)
    if wanted:
        return (best,)
    sizes: list[int] = []
    for size in sorted(exported, key=lambda size: (-active % size, -size)):
        if size <= min(sizes, default=best):
            sizes.append(size)
    return tuple(sizes)


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
