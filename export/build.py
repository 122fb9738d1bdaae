"""A bundle from weights: the graphs of each stage written beside them and verified."""

import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

from keyvid.engines.bundle import StageSpec, write_manifest
from keyvid.engines.errors import KeyvidError
from keyvid.engines.verification import TOLERANCE
from keyvid.export.graph import export_graph, half_precision
from keyvid.export.manifest import describe_bundle, describe_graph
from keyvid.export.ranges import Ranges, stage_ranges
from keyvid.export.scene import Scene
from keyvid.export.source import TOKENIZER, Source
from keyvid.export.stages import STAGES, Stage, Variant
from keyvid.export.target import files_of, put_in_place, stages_to_keep
from keyvid.export.tensorrt_check import find_problems
from keyvid.export.verify import known_sample, reference_check, relative_errors
from keyvid_ref.weights import Networks


class ExportError(KeyvidError):
    """A graph does not give what the reference gives, or is not for the engine that it is for."""


@dataclass(frozen=True)
class StageReport:
    """What a stage became, and the bytes of its graphs and weights."""

    name: str
    bytes: int
    seconds: float
    spec: StageSpec


def build_bundle(
    source: Source,
    out: Path,
    stages: Collection[str] = tuple(STAGES),
    *,
    precision: str = "fp32",
    verify: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> list[StageReport]:
    """Export `stages` into the bundle `out`, which keeps its other stages.

    Args:
        out: a bundle, or a folder that is empty or not there.
        stages: names in `STAGES`.
        precision: "fp32" or "fp16", what the graphs compute in.
        progress: called with a line before each graph.

    Raises:
        KeyvidError: nothing was changed.
    """
    out = out.resolve()
    kept = stages_to_keep(out, source, stages)
    networks, tokenizer = source.load()
    exporter = _Exporter(
        networks, source, precision, Scene(networks, source.preset, tokenizer) if verify else None
    )
    with put_in_place(out) as folder:
        for name in files_of(kept):
            shutil.copyfile(out / name, folder / name)
        for file in {source.path(stage) for stage in stages}:
            shutil.copyfile(file, folder / file.name)
        if "text_encoder" in stages:
            shutil.copyfile(source.folder / TOKENIZER, folder / TOKENIZER)
        exported, reports = {}, []
        for name in stages:
            start = perf_counter()
            exported[name] = spec = exporter.export(name, folder, progress)
            size = sum((folder / file).stat().st_size for file in files_of({name: spec}))
            reports.append(StageReport(name, size, perf_counter() - start, spec))
        specs = {name: (kept | exported)[name] for name in STAGES if name in kept | exported}
        write_manifest(folder, describe_bundle(source, out.name, specs, folder))
    return reports


@dataclass(frozen=True)
class _Exporter:
    """Exports stages of `networks`; verifies them where a scene is given."""

    networks: Networks
    source: Source
    precision: str
    scene: Scene | None

    def export(self, name: str, folder: Path, progress: Callable[[str], None]) -> StageSpec:
        """Write the graphs of a stage into `folder`, which holds its weights."""
        stage, preset = STAGES[name], self.source.preset
        graphs, errors = [], []
        ranges = self._ranges(stage)
        for variant in stage.variants:
            path = folder / f"{name}{variant.suffix}.onnx"
            progress(path.name)
            module = stage.module(self.networks, variant)
            inputs = stage.inputs(preset, variant)
            sample = known_sample(inputs)
            shape = export_graph(
                half_precision(module, ranges.islands) if ranges else module,
                stage.call,
                sample,
                stage.output,
                folder / self.source.path(name).name,
                path,
            )
            if ranges:  # half precision is made for TensorRT
                _check_tensorrt(path)
            graph = describe_graph(path.name, variant, inputs, {stage.output: shape})
            if self.scene is not None:
                graph = replace(graph, check=reference_check(stage, module, sample))
                real = _real_sample(stage, self.scene, variant, list(inputs))
                errors.append(self._verify(path, stage, module, {"random": sample, "real": real}))
            graphs.append(graph)
        half = ranges.describe() if ranges and self.scene else None
        return StageSpec(self.precision, tuple(graphs), max(errors, default=None), half)

    def _ranges(self, stage: Stage) -> Ranges | None:
        """What half precision has to know of the stage: nothing if it is not verified."""
        if self.precision != "fp16":
            return None
        if self.scene is None:
            return Ranges()
        ranges = stage_ranges(stage, lambda v: stage.module(self.networks, v), self.scene)
        if ranges.too_large:
            raise ExportError(
                f"{stage.weights}: {ranges.too_large[0]!r} gives more than float16 holds, 65504; "
                "nothing was written, take --precision fp32"
            )
        return ranges

    def _verify(
        self, path: Path, stage: Stage, module: nn.Module, samples: dict[str, dict[str, Tensor]]
    ) -> float:
        """Largest relative error of the graph at `path`.

        Raises:
            ExportError: it is more than the precision allows.
        """
        tolerance = TOLERANCE[self.precision]
        errors = relative_errors(
            path,
            lambda *inputs: stage.call(module, *inputs),
            list(samples.values()),
            stage.output,
            tolerance,
        )
        for kind, error in zip(samples, errors, strict=True):
            if not error <= tolerance:  # NaN is no match either
                raise ExportError(
                    f"{path.name}: relative error {error:.1e} against the reference on {kind} "
                    f"inputs, {self.precision} allows {tolerance:.0e}; nothing was written, "
                    "try --precision fp32 or the package versions that pyproject.toml names"
                )
        return max(errors)


def _check_tensorrt(path: Path) -> None:
    if problems := find_problems(path):
        raise ExportError(
            f"{path.name}: {len(problems)} reasons why TensorRT would refuse it, the first: "
            f"{problems[0]}; nothing was written, use the versions that pyproject.toml names"
        )


@torch.no_grad()
def _real_sample(
    stage: Stage, scene: Scene, variant: Variant, names: list[str]
) -> dict[str, Tensor]:
    values = stage.real_inputs(scene, variant)
    return {name: value.contiguous() for name, value in zip(names, values, strict=True)}
