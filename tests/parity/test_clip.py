"""The runtime against the reference pipeline: the same bundle, seed and settings, the same clip.

A clip of the packaged size takes the reference up to a minute, so only the shortest one is made
each time. `tests/export/test_clip.py` has the same cases in small.
"""

import math

import numpy as np
import pytest
from tokenizers import Tokenizer

from keyvid import Pipeline, Settings
from keyvid.bundle.manifest import Bundle
from keyvid.sampling import UNetSettings
from keyvid_ref.pipeline import ReferencePipeline
from keyvid_ref.presets import PRESETS
from keyvid_ref.weights import load_networks
from keyvid_ref.world.world import TEST_SEEDS, make_clip

SEED = 11


@pytest.fixture(scope="module")
def bundle():
    return Bundle.load("tiny")


@pytest.fixture(scope="module")
def scene(bundle):
    return make_clip(TEST_SEEDS[0], bundle.dimensions.height, bundle.dimensions.width)


@pytest.fixture(scope="module")
def animate(bundle, scene):
    """`animate(engine, **options)`: the runtime's clip of the scene."""

    def run(engine="auto", **options):
        sound = (scene.waveform, bundle.dimensions.sample_rate)
        pipeline = Pipeline.load(bundle.path, engine, threads=1)
        return pipeline(scene.frames[0], sound, seed=SEED, **options)

    return run


@pytest.fixture(scope="module")
def reference(bundle, scene):
    """`reference(clip, given)`: the same from the reference, with the keyframes that are given."""
    preset = PRESETS[bundle.preset]
    tokenizer = Tokenizer.from_file(str(bundle.path / "tokenizer.json"))
    pipeline = ReferencePipeline(load_networks(bundle.path, preset), preset, tokenizer)

    def run(clip, keyframes_given):
        return pipeline(
            scene.frames[0],
            scene.waveform,
            prompt=clip.prompt,
            seed=SEED,
            sampling=clip.settings,
            keyframes=clip.keyframes if keyframes_given else None,
        )

    return run


def psnr(frames, others):
    """Peak signal-to-noise ratio in dB of two uint8 videos."""
    error = np.mean((frames.astype(np.float64) - others) ** 2)
    return 10 * math.log10(255**2 / error) if error else math.inf


def case(name, engine, settings, *, slow=False, **options):
    return pytest.param(engine, settings, options, id=name, marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize(
    ("engine", "settings", "options"),
    [
        case(
            "four branches, two at a time",
            "onnxruntime",
            Settings(steps=1, guidance_image=2.0, guidance_text=3.0, cfg_batch=2),
            prompt="drum",
        ),
        case("default", "openvino", Settings(), prompt="hammer", slow=True),
        case("fast", "openvino", Settings(quality="fast"), prompt="hammer", slow=True),
        case("exact", "openvino", Settings(quality="exact"), prompt="hammer", slow=True),
        case(
            "windows",
            "onnxruntime",
            Settings(steps=2, solver="ddim", temporal="windows"),
            slow=True,
        ),
        case(
            "given keyframes",
            "openvino",
            Settings(steps=2, solver="dpm", temporal="full"),
            prompt="hammer",
            keyframes="0,1,5,9,10,11,20,30,31,40,46,47",
            slow=True,
        ),
        case(
            "two branches in the first step, one in the others",
            "openvino",
            Settings(steps=3, guidance_until=700, interpolator=UNetSettings(guidance_audio=4.0)),
            keyframes="uniform",
            slow=True,
        ),
    ],
)
def test_the_clip_is_the_references(engine, settings, options, animate, reference):
    clip = animate(engine, settings=settings, **options)
    want = reference(clip, "keyframes" in options)
    assert np.array_equal(clip.keyframes, want.keyframes)
    # float32 sums in another order; motion is between 0 and about 1.
    assert np.abs(clip.motion - want.motion).max() < 1e-4
    # Only grey levels that round the other way differ: float32 engines leave more than 80 dB.
    assert psnr(clip.frames, want.frames) >= 45
