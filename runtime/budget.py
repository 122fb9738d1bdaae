"""Guidance branches per network call: as many as the memory allows, said before work starts."""

import logging
from collections.abc import Iterator
from operator import itemgetter

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import GraphSpec
from keyvid.engines.memory import available_bytes, engine_bytes, process_bytes
from keyvid.errors import SettingsError
from keyvid.runtime.guidance import active_branches, batch_sizes
from keyvid.sampling import UNETS, Sampling
from keyvid.sizes import format_size, format_sizes

log = logging.getLogger(__name__)


def choose_batches(
    bundle: Bundle,
    engine: str,
    sampling: Sampling,
    *,
    cfg_batch: int | None = None,
    max_memory: int | None = None,
) -> dict[str, int]:
    """Branches per network call of each U-Net, so that a clip with `sampling` fits in memory.

    Stages are open one at a time, so that each has to fit by itself.

    Args:
        cfg_batch: the most that may go together; None leaves it to the memory.
        max_memory: bytes that this process may take, None for what is free.
    Raises:
        SettingsError: a stage does not fit; says how much the largest takes.
    """
    _check_cfg_batch(bundle, cfg_batch)
    held = process_bytes()
    room = held + available_bytes() if max_memory is None else max_memory
    chosen: dict[str, GraphSpec] = {}
    lines: list[tuple[int, str]] = []
    too_large: list[tuple[int, str, GraphSpec]] = []
    for stage in bundle.stages:
        graphs = list(_graphs(bundle, stage, sampling, cfg_batch))
        needs = [held + _bytes(bundle, engine, graph) for graph in graphs]
        fits = [needed <= room for needed in needs]
        if not any(fits):
            too_large.append((needs[-1], stage, graphs[-1]))
            continue
        taken = fits.index(True)
        graph = chosen[stage] = graphs[taken]
        if needs[taken] > held:  # not on a GPU
            forecast = f"{graph.file}: at most {format_size(needs[taken])} of memory"
            lines.append((logging.INFO, forecast))
        if taken:
            fewer = f"{stage}: {_branches(graph)}, more do not fit in memory"
            lines.append((logging.WARNING, fewer))
    if too_large:
        needed, stage, graph = max(too_large, key=itemgetter(0))
        is_asked = max_memory is not None
        raise SettingsError(_refusal(stage, graph, needed, room, is_asked=is_asked))
    for level, line in lines:
        log.log(level, line)
    return {stage: graph.branches for stage, graph in chosen.items() if graph.branches}


def _graphs(
    bundle: Bundle, stage: str, sampling: Sampling, cfg_batch: int | None
) -> Iterator[GraphSpec]:
    """The graphs of a stage that could be taken, the best first."""
    if stage not in UNETS:
        yield bundle.graph(stage)
        return
    active, _ = active_branches(*sampling.of(stage).scales)
    temporal = sampling.temporal if stage == "interpolator" else None
    for branches in batch_sizes(len(active), bundle.branches(stage), cfg_batch):
        yield bundle.graph(stage, branches=branches, temporal=temporal)


def _check_cfg_batch(bundle: Bundle, cfg_batch: int | None) -> None:
    sizes = sorted(set(bundle.branches("generator")) & set(bundle.branches("interpolator")))
    if cfg_batch is not None and cfg_batch not in sizes:
        valid = ", ".join(map(str, sizes))
        raise SettingsError(f"cfg-batch {cfg_batch}: want one of {valid}")


def _bytes(bundle: Bundle, engine: str, graph: GraphSpec) -> int:
    """What the engine adds to the process at most, 0 where it takes other memory."""
    return engine_bytes(engine, graph.memory, bundle.files[graph.file].bytes) or 0


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
