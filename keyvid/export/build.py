"""A bundle from weights: the graphs of each stage written beside them and verified."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

from keyvid.bundle.manifest import write_manifest
from keyvid.bundle.specs import Check, Form, Precision, StageSpec
from keyvid.engines.verification import TOLERANCE
from keyvid.errors import KeyvidError
from keyvid.export.cuda_check import find_cpu_nodes
from keyvid.export.graph import export_graph, half_precision
from keyvid.export.manifest import describe_bundle, describe_graph, makers
from keyvid.export.ranges import Ranges, stage_ranges
from keyvid.export.scene import JudgedScene, Scene
from keyvid.export.source import Source, parts
from keyvid.export.stages import STAGES, Stage, Variant, stages_of
from keyvid.export.target import (
    Kept,
    Unfinished,
    files_of,
    find_kept,
    put_in_place,
    stored_parts,
)
from keyvid.export.tensorrt_check import find_problems
from keyvid.export.verify import known_sample, read_nodes, reference_check, relative_errors
from keyvid_ref.presets import Preset
from keyvid_ref.weights import load_network, outline_network

# Larger pictures are verified at this size, by graphs made for it, and on random inputs only.
_VERIFIED_HEIGHT, _VERIFIED_WIDTH = 64, 128
_SMALL_PIXELS = 128 * 192


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
    precision: Precision = "fp32",
    families: Collection[Form] = (),
    verify: bool = True,
    drop_downloads: bool = False,
    prepare: Callable[[Sequence[str], Collection[str]], None] = lambda stages, written: None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[StageReport]:
    """Export `stages` into the bundle `out`, which keeps its other stages.

    Args:
        out: a bundle, or a folder that is empty or not there.
        stages: names in `stages_of` the preset.
        precision: "fp32" or "fp16", what the graphs compute in.
        families: forms to write besides the plain one, each for a family of engines.
        drop_downloads: fetch each download when it is needed, and remove it once the stages that
            are read from it are finished.
        prepare: called with the stages that are not finished yet, and the parts of them that are
            written, before anything is fetched.
        progress: called with a line before each graph.

    Raises:
        KeyvidError: nothing was changed; of downloads finished stages are kept for the next call.
    """
    out = out.resolve()
    kept = find_kept(out, source, stages)
    source.check(stages)
    forms: tuple[Form, ...] = ("plain", *families)
    reports = []
    with put_in_place(out, _describe_export(source, stages, precision, forms, verify)) as made:
        made.outlasts_failures = bool(source.origin.downloads)
        missing = [name for name in stages if name not in made.stages]
        written = {part for name in missing for part in parts(name)} - _unread_parts(stages, made)
        prepare(missing, written)
        scene = _open_scene(source) if verify else None
        exporter = _Exporter(source, precision, forms, verify, scene)
        if not drop_downloads:  # all of them before the slow part, which bad input should not reach
            for name in missing:
                exporter.write_weights(name, made.folder, kept)
        for name in stages:
            start = perf_counter()
            if name in missing:
                exporter.write_weights(name, made.folder, kept)
                made.finish(name, exporter.export(name, made.folder, progress))
            if drop_downloads:
                source.drop_downloads(_unread_parts(stages, made))
            spec = made.stages[name]
            size = sum(made.files[file].bytes for file in files_of({name: spec}))
            reports.append(StageReport(name, size, perf_counter() - start, spec))
        kept.put_into(made.folder)
        specs = kept.stages | made.stages
        specs = {name: specs[name] for name in stages_of(source.preset) if name in specs}
        sources = kept.sources | source.describe(stages)
        licences = kept.licences | source.licences(stages)
        bundle = describe_bundle(source, out, specs, kept.files | made.files, sources, licences)
        write_manifest(made.folder, bundle)
    return reports


def _unread_parts(stages: Collection[str], made: Unfinished) -> set[str]:
    """Parts of the stages that are not finished whose files are not among the finished ones."""
    left = [name for name in stages if name not in made.stages]
    return {
        part for name in left for file, part in stored_parts(name).items() if file not in made.files
    }


def _describe_export(
    source: Source,
    stages: Collection[str],
    precision: Precision,
    forms: tuple[Form, ...],
    verify: bool,
) -> str:
    """All that the finished stages of an export depend on."""
    inputs = source.checksums(stages)
    options = [repr(source.preset), source.origin.seed, [*stages], precision, forms, verify]
    return json.dumps([inputs, options, makers()])


def _verified_preset(preset: Preset) -> Preset:
    """The preset at the size at which its graphs are verified: its own, where that is small.

    The judge's networks know one size of picture only, and a call of them takes little.
    """
    if preset.judges or preset.height * preset.width <= _SMALL_PIXELS:
        return preset
    height, width = min(preset.height, _VERIFIED_HEIGHT), min(preset.width, _VERIFIED_WIDTH)
    return replace(preset, height=height, width=width)


def _open_scene(source: Source) -> Scene | JudgedScene | None:
    """Real inputs for a preset whose networks fit in memory together, where all are there."""
    if _verified_preset(source.preset) != source.preset:
        return None
    if not source.needed(stages_of(source.preset)).keys() <= source.origin.inputs.keys():
        return None
    if source.preset.judges:
        networks = source.load_judge()
        return JudgedScene(networks["avsync_audio"], networks["avsync_video"], source.preset)
    clip_networks, tokenizer = source.load()
    return Scene(clip_networks, source.preset, tokenizer)


@dataclass(frozen=True)
class _Exporter:
    """Exports stages one by one, each with no other network than its own in memory."""

    source: Source
    precision: Precision
    forms: tuple[Form, ...]
    verify: bool
    scene: Scene | JudgedScene | None

    def write_weights(self, name: str, folder: Path, kept: Kept) -> None:
        """Write what the graphs of a stage need beside them, unless it is there."""
        for file, part in stored_parts(name).items():
            if not (folder / file).exists():
                self.source.write(part, folder, half=self.precision == "fp16")
                kept.check(folder / file)

    def export(self, name: str, folder: Path, progress: Callable[[str], None]) -> StageSpec:
        """Write the graphs of a stage into `folder`, which holds its weights."""
        preset = self.source.preset
        stage = stages_of(preset)[name]
        weights = folder / f"{stage.weights}.safetensors"
        ranges = self._ranges(stage, weights)
        graphs, errors = [], []
        for variant in stage.variants:
            paths = {form: folder / _graph_file(name, variant, form) for form in self.forms}
            progress(", ".join(path.name for path in paths.values()))
            shape = self._write_graphs(stage, variant, preset, weights, paths, ranges)
            inputs = stage.inputs(preset, variant)
            for form, path in paths.items():
                _check_operators(path, form, self.precision)
                graph = describe_graph(path, variant, form, inputs, {stage.output: shape})
                if self.verify:
                    error, check = self._verify(stage, variant, weights, form, path, ranges)
                    graph = replace(graph, check=check)
                    errors.append(error)
                graphs.append(graph)
        half = ranges.describe() if ranges and self.scene else None
        return StageSpec(self.precision, tuple(graphs), max(errors, default=None), half)

    def _ranges(self, stage: Stage, weights: Path) -> Ranges | None:
        """What half precision has to know of the stage: nothing where there are no real inputs."""
        if self.precision != "fp16":
            return None
        if self.scene is None:
            return Ranges()
        reference = load_network(weights, self.source.preset)
        ranges = stage_ranges(stage, reference, self.scene)
        if ranges.too_large:
            raise ExportError(
                f"{stage.weights}: {ranges.too_large[0]!r} gives more than float16 holds, 65504; "
                "nothing was written, take --precision fp32"
            )
        return ranges

    def _write_graphs(
        self,
        stage: Stage,
        variant: Variant,
        preset: Preset,
        weights: Path,
        paths: Mapping[Form, Path],
        ranges: Ranges | None,
    ) -> tuple[int, ...]:
        """Write the forms of a stage's graph at the size of `preset`; gives the output's shape."""
        module = outline_network(preset, stage.weights)
        return export_graph(
            half_precision(module, ranges.islands) if ranges else module,
            stage.call_of(variant),
            known_sample(stage.inputs(preset, variant)),
            stage.output,
            weights,
            paths,
        )

    def _verify(
        self,
        stage: Stage,
        variant: Variant,
        weights: Path,
        form: Form,
        path: Path,
        ranges: Ranges | None,
    ) -> tuple[float, Check | None]:
        """Largest relative error of the graph at `path`, or of the same in small.

        Where it is the graph itself, the reference's outcome for engines comes with it.

        Raises:
            ExportError: it is more than the precision allows.
        """
        preset = _verified_preset(self.source.preset)
        sample = known_sample(stage.inputs(preset, variant))
        samples = {"random": sample}
        if self.scene is not None:
            samples["real"] = _real_sample(stage, self.scene, variant, list(sample))
        if stage.inputs(preset, variant) == stage.inputs(self.source.preset, variant):
            error = self._compare(path, stage, variant, weights, samples)
            reference = partial(stage.call_of(variant), self._reference(weights))
            return error, reference_check(reference, stage.output, sample)
        small = path.with_name(f"small.{path.name}")
        try:
            self._write_graphs(stage, variant, preset, weights, {form: small}, ranges)
            if read_nodes(small) != read_nodes(path):
                raise ExportError(
                    f"{path.name}: is not the graph that {preset.height}x{preset.width} pixels "
                    "give, so it cannot be verified by that; use --no-verify"
                )
            return self._compare(small, stage, variant, weights, samples), None
        finally:
            small.unlink(missing_ok=True)

    def _reference(self, weights: Path) -> nn.Module:
        return load_network(weights, self.source.preset)

    def _compare(
        self,
        path: Path,
        stage: Stage,
        variant: Variant,
        weights: Path,
        samples: dict[str, dict[str, Tensor]],
    ) -> float:
        tolerance = TOLERANCE[self.precision]

        errors = relative_errors(
            path,
            lambda: partial(stage.call_of(variant), self._reference(weights)),
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


def _graph_file(stage: str, variant: Variant, form: Form) -> str:
    suffix = "" if form == "plain" else f".{form}"
    return f"{stage}{variant.suffix}{suffix}.onnx"


def _check_operators(path: Path, form: Form, precision: Precision) -> None:
    """Refuse a graph that is not for the engine that its form or precision is made for."""
    if form == "cuda":
        problems, why = find_cpu_nodes(path), "nodes would not run on the GPU"
    elif precision == "fp16":
        problems, why = find_problems(path), "reasons why TensorRT would refuse it"
    else:
        return
    if problems:
        raise ExportError(
            f"{path.name}: {len(problems)} {why}, the first: {problems[0]}; nothing was written, "
            "use the versions that pyproject.toml names"
        )


@torch.no_grad()
def _real_sample(
    stage: Stage, scene: Scene | JudgedScene, variant: Variant, names: list[str]
) -> dict[str, Tensor]:
    values = stage.real_inputs(scene, variant)
    return {name: value.contiguous() for name, value in zip(names, values, strict=True)}
