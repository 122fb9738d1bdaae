"""The runtime against the reference pipeline: the same bundle, seed and settings, the same clip."""

import math

import numpy as np
import pytest
from tokenizers import Tokenizer

from keyvid import Pipeline, Settings
from keyvid.bundle.manifest import Bundle
from keyvid.errors import BundleError, EngineError, SettingsError
from keyvid.runtime import stages
from keyvid.sampling import resolve
from keyvid_ref.pipeline import ReferencePipeline
from keyvid_ref.presets import PRESETS
from keyvid_ref.weights import load_networks
from keyvid_ref.world import TEST_SEEDS, make_clip

SEED = 11
STAGES = [
    "localizer",
    "image_encoder",
    "text_encoder",
    "audio_encoder",
    "vae_encoder",
    "generator",
    "interpolator",
    "vae_decoder",
]


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


@pytest.mark.parametrize(
    ("engine", "settings", "options"),
    [
        ("onnxruntime", Settings(steps=2, solver="ddim", temporal="windows"), {}),
        (
            "openvino",
            Settings(steps=2, solver="dpm", temporal="full"),
            {"prompt": "hammer", "keyframes": "0,1,5,9,10,11,20,30,31,40,46,47"},
        ),
        (  # four active branches, two at a time
            "onnxruntime",
            Settings(steps=1, guidance_image=2.0, guidance_text=3.0, cfg_batch=2),
            {"prompt": "drum"},
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


def test_one_stage_at_a_time_and_all_of_it_reported(animate, bundle, scene, monkeypatch, tmp_path):
    opened, closed, reports = [], [], []
    open_engine = stages.open_engine

    def watched(bundle, stage, **options):
        assert len(opened) == len(closed), f"{stage} opened beside {opened[-1]}"
        engine = open_engine(bundle, stage, **options)
        close = engine.close
        opened.append(stage)
        monkeypatch.setattr(engine, "close", lambda: (closed.append(stage), close()))
        return engine

    monkeypatch.setattr(stages, "open_engine", watched)
    clip = animate(
        settings=Settings(steps=1, guidance_audio=3.0),
        keyframes="uniform",
        progress=lambda *report: reports.append(report),
    )
    assert opened == closed == list(clip.timings) == STAGES
    assert all(seconds > 0 for seconds in clip.timings.values())
    assert list(dict.fromkeys(stage for stage, _, _ in reports)) == STAGES
    assert {stage: (done, total) for stage, done, total in reports} == {
        stage: (total, total) for stage, _, total in reports
    }  # the last report of each says that it is done

    size = bundle.dimensions
    assert clip.frames.shape == (size.frames, size.height, size.width, 3)
    assert clip.frames.dtype == np.uint8
    assert np.array_equal(clip.sound.samples[:, 0], scene.waveform)
    assert clip.keyframes.tolist() == list(range(0, 48, 4))
    assert (clip.bundle, clip.seed, clip.prompt) == (bundle.name, SEED, "")
    assert clip.settings == resolve(Settings(steps=1, guidance_audio=3.0), bundle.sampling)
    clip.save(tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").stat().st_size > 1000


@pytest.mark.parametrize(
    "options",
    [
        {"settings": Settings(steps=0)},
        {"settings": Settings(cfg_batch=5)},
        {"keyframes": "0,1"},
        {"start": -1.0},
    ],
)
def test_wrong_settings_come_out_before_any_stage_is_opened(options, animate, monkeypatch):
    monkeypatch.setattr(stages, "open_engine", lambda *_, **__: pytest.fail("opened a stage"))
    with pytest.raises(SettingsError):
        animate(**options)


def test_unknown_bundle_and_engine():
    with pytest.raises(BundleError, match="tiny"):
        Pipeline.load("no-such-bundle")
    with pytest.raises(EngineError, match="onnxruntime"):
        Pipeline.load("tiny", "abacus")
