"""Inputs, a bundle without networks and a made-up clip, for tests around the sampling."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import numpy as np
import pytest
import soundfile
from PIL import Image

from keyvid.bundle.manifest import Bundle, write_manifest
from keyvid.bundle.specs import (
    Conditioning,
    Dimensions,
    FileSpec,
    GraphSpec,
    StageSpec,
)
from keyvid.bundle.tokenizer import TOKENIZER
from keyvid.runtime.clip import Clip
from keyvid.runtime.media.sound import Sound
from keyvid.sampling import Sampling

SAMPLING = Sampling()
DIMENSIONS = Dimensions(
    height=64,
    width=96,
    frames=48,
    keyframes=12,
    fps=24,
    keyframe_fps=6,
    latent_channels=8,
    latent_height=8,
    latent_width=12,
    text_tokens=16,
    image_tokens=4,
    clip_image_size=56,
    frequency_patches=8,
    window=12,
    window_stride=6,
    sample_rate=16_000,
    mel_bins=128,
    mel_frames=204,
    localizer_frames=198,
    vocabulary=512,
)


@pytest.fixture
def dimensions() -> Dimensions:
    """Those of a bundle."""
    return DIMENSIONS


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with picture.png, sound.wav (2 s) and a bundle without networks."""
    monkeypatch.chdir(tmp_path)
    shade = np.linspace(0, 255, 120 * 72 * 3).reshape(72, 120, 3).astype(np.uint8)
    Image.fromarray(shade).save("picture.png")
    wave = 0.5 * np.sin(np.arange(32_000) * 0.3)
    soundfile.write("sound.wav", wave, 16_000)
    write_hollow_bundle(tmp_path / "hollow")
    return tmp_path


def write_hollow_bundle(folder: Path) -> None:
    """A bundle with all that the packaged one has, but nothing is in its graphs."""
    folder.mkdir()
    # A ModelProto: version 10 of the format, an empty graph, an empty operator set.
    (folder / "unet.onnx").write_bytes(b"\x08\x0a\x3a\x00\x42\x00")
    packaged = Bundle.load("tiny")
    copyfile(packaged.path / TOKENIZER, folder / TOKENIZER)
    stages = {
        name: replace(
            stage,
            graphs=tuple(replace(g, file="unet.onnx") for g in stage.graphs if g.branches != 3),
        )
        for name, stage in packaged.stages.items()
    }
    files = {name: FileSpec.of(folder / name) for name in ("unet.onnx", TOKENIZER)}
    bundle = replace(
        packaged,
        path=folder,
        name="hollow",
        weights="random",
        sampling=SAMPLING,
        stages=stages,
        files=files,
    )
    write_manifest(folder, bundle)


@pytest.fixture
def bundle_of() -> Callable[[Sampling, dict[str, list[GraphSpec]]], Bundle]:
    """`bundle_of(sampling, graphs)`: a bundle that is nowhere, for what only reads its manifest."""

    def make(sampling: Sampling, graphs: dict[str, list[GraphSpec]]) -> Bundle:
        return Bundle(
            path=Path("none"),
            name="none",
            preset="tiny",
            weights="random",
            makers={},
            dimensions=DIMENSIONS,
            conditioning=Conditioning("paper", 1.0, False, 0.7),
            sampling=sampling,
            stages={name: StageSpec("fp32", tuple(of)) for name, of in graphs.items()},
            files={g.file: FileSpec(0, 64 * "0") for of in graphs.values() for g in of},
        )

    return make


@pytest.fixture
def clip() -> Clip:
    """A clip that no network made: a bar that moves right, louder sound in its second half."""
    frames = np.full((48, 64, 96, 3), 60, np.uint8)
    for index, frame in enumerate(frames):
        frame[:, index : index + 20] = (240, 200, 40)
    audio = (0.2 + 0.6 * (np.arange(32_000) >= 16_000)) * np.sin(np.arange(32_000) * 0.3)
    return Clip(
        frames=frames,
        fps=24,
        sound=Sound(audio.astype(np.float32)[:, None], 16_000),
        keyframes=np.array([0, 3, 7, 12, 16, 20, 25, 29, 33, 38, 42, 46]),
        motion=np.linspace(0, 1, 48, dtype=np.float32),
        batches={"generator": 2, "interpolator": 1},
        calls={"generator.b2.onnx": 15, "interpolator.b1.windows.onnx": 4},
        timings={"generator": 1.25, "interpolator": 2.5},
        bundle="hollow",
        engine="onnxruntime",
        prompt="a bar",
        seed=7,
        settings=SAMPLING,
    )


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes | None]]:
    """`contents(folder)`: everything in it by name, with the bytes of the files."""

    def read(folder: Path) -> dict[str, bytes | None]:
        paths = sorted(folder.rglob("*"))
        return {str(path): path.read_bytes() if path.is_file() else None for path in paths}

    return read
