"""A bundle that is to be run is whole, and its parts fit; what does not is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import Dimensions, GraphSpec
from keyvid.bundle.structure import check_complete
from keyvid.errors import BundleError
from keyvid.sampling import UNetSampling

PACKAGED = Bundle.load("tiny", verify=False)


def resized(**sizes: int) -> Bundle:
    return replace(PACKAGED, dimensions=replace(PACKAGED.dimensions, **sizes))


def regraphed(stage: str, change: Callable[[tuple[GraphSpec, ...]], Any]) -> Bundle:
    spec = PACKAGED.stages[stage]
    changed = replace(spec, graphs=tuple(change(spec.graphs)))
    return replace(PACKAGED, stages={**PACKAGED.stages, stage: changed})


def reshaped(stage: str, **shapes: tuple[int, ...]) -> Bundle:
    """The packaged bundle with other shapes of tensors in the first graph of a stage."""

    def change(graphs: tuple[GraphSpec, ...]) -> list[GraphSpec]:
        inputs, outputs = (
            {name: replace(t, shape=shapes.get(name, t.shape)) for name, t in tensors.items()}
            for tensors in (graphs[0].inputs, graphs[0].outputs)
        )
        return [replace(graphs[0], inputs=inputs, outputs=outputs), *graphs[1:]]

    return regraphed(stage, change)


def without(names: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in names.items() if key != name}


def test_the_packaged_bundle_is_whole() -> None:
    check_complete(PACKAGED)


def test_a_bundle_without_a_localizer_is_whole() -> None:
    check_complete(replace(PACKAGED, stages=without(PACKAGED.stages, "localizer")))


@pytest.mark.parametrize("name", Dimensions.__dataclass_fields__)
def test_no_dimension_is_without_a_check(name: str) -> None:
    """A size that is wrong by itself does not fit something else; speeds fit anything."""
    bundle = resized(**{name: 7 if name == "vocabulary" else 10_007})
    if name in ("keyframe_fps", "fps"):
        bundle = resized(fps=48 * 40 + 1)
    with pytest.raises(BundleError):
        check_complete(bundle)


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        (
            replace(PACKAGED, stages=without(PACKAGED.stages, "vae_encoder")),
            "a clip needs the stages vae_encoder as well",
        ),
        (
            replace(PACKAGED, stages={**PACKAGED.stages, "x": PACKAGED.stages["localizer"]}),
            "unknown stage 'x'; valid are text_encoder, image_encoder",
        ),
        (
            resized(height=65),
            r"vae_encoder.onnx: image is float32 1 x 3 x 96 x 160, the dimensions",
        ),
        (resized(keyframes=49), "49 keyframes of 48 frames"),
        (resized(window=13), "windows of 13 frames every 6 do not fit 48"),
        (resized(window=16, window_stride=12), "windows of 16 frames every 12 do not fit 48"),
        (resized(window=15, window_stride=5), "windows of 15 frames every 5 do not fit 48"),
        (resized(window=54), "windows of 54 frames every 6 do not fit 48"),
        (
            replace(PACKAGED, conditioning=replace(PACKAGED.conditioning, layout="released")),
            r"generator.b4.onnx: audio is float32 4 x 12 x 9 x 96, .* float32 4 x 12 x 8 x 96",
        ),
        (
            replace(PACKAGED, files=without(PACKAGED.files, "tokenizer.json")),
            "tokenizer.json is not among files",
        ),
        (
            replace(PACKAGED, sampling=replace(PACKAGED.sampling, generator=UNetSampling(steps=0))),
            "steps 0: want a whole number, 1 to 1000",
        ),
        (
            regraphed("generator", lambda graphs: (*graphs, graphs[0])),
            "stages.generator has plain graphs for branches/temporal 4/None, .*, want one of each",
        ),
        (
            regraphed("generator", lambda graphs: [replace(graphs[0], branches=None)]),
            "stages.generator has plain graphs for branches/temporal None/None, want one of each",
        ),
        (
            regraphed("interpolator", lambda graphs: graphs[1:]),
            "stages.interpolator has plain graphs for .*, want one of each",
        ),
        (
            regraphed("interpolator", lambda graphs: [g for g in graphs if g.temporal == "full"]),
            "the interpolator has no graph for temporal windows",
        ),
        (
            regraphed("vae_decoder", lambda graphs: [replace(graphs[0], branches=1)]),
            "stages.vae_decoder has plain graphs for branches/temporal 1/None, want one of each",
        ),
        (
            reshaped("generator", context=(2, 64, 128), audio=(2, 12, 9, 96)),
            r"generator.b4.onnx: context is float32 2 x 64 x 128, .* say float32 4 x 64 x 128",
        ),
        (
            reshaped("image_encoder", image_tokens=(1, 192, 64)),
            r"image_encoder.onnx: image_tokens is float32 1 x 192 x 64, .* 1 x 192 x 128",
        ),
        (
            reshaped("interpolator", audio=(4, 48, 9, 95)),
            r"interpolator.b4.*: audio is float32 4 x 48 x 9 x 95, .* 4 x 48 x 9 x 96",
        ),
        (
            regraphed("localizer", lambda graphs: [replace(graphs[0], inputs={})]),
            r"localizer.onnx has tensors motion; 'mel' is wrong",
        ),
        (
            regraphed(
                "vae_decoder",
                lambda g: [replace(g[0], memory=replace(g[0].memory, values=4 * 3 * 64 * 96 - 1))],
            ),
            "vae_decoder.onnx: memory.values is less than the output takes",
        ),
    ],
)
def test_what_does_not_fit_is_named(bundle: Bundle, message: str) -> None:
    with pytest.raises(BundleError, match=rf"bundle\.json: .*{message}.*; export it again"):
        check_complete(bundle)


def in_both_forms(graphs: tuple[GraphSpec, ...]) -> tuple[GraphSpec, ...]:
    return (*graphs, *(replace(graph, form="cuda") for graph in graphs))


def test_a_bundle_may_have_another_form_beside_the_plain_one() -> None:
    for stage in PACKAGED.stages:
        check_complete(regraphed(stage, in_both_forms))
    for cut in (slice(1, None), slice(-1)):  # a graph is missing in one of them
        with pytest.raises(BundleError, match=r"generator has (plain|cuda) graphs .*one of each"):
            check_complete(regraphed("generator", lambda graphs, c=cut: in_both_forms(graphs)[c]))


def test_tokens_are_those_of_the_encoder() -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json: gives token 338, .* knows 0 to 299"):
        check_complete(resized(vocabulary=300))


def test_the_pipeline_asks_for_it(tmp_path: Path) -> None:
    from keyvid.runtime.pipeline import Pipeline

    for path in PACKAGED.path.iterdir():
        (tmp_path / path.name).symlink_to(path)
    content = json.loads((PACKAGED.path / "bundle.json").read_text())
    del content["stages"]["vae_encoder"]
    (tmp_path / "bundle.json").unlink()
    (tmp_path / "bundle.json").write_text(json.dumps(content))
    assert "vae_encoder" not in Bundle.load(tmp_path).stages  # a partial bundle is one
    with pytest.raises(BundleError, match="needs the stages vae_encoder"):
        Pipeline.load(tmp_path)
