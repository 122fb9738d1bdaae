"""Clips with the packaged networks, of one window and of several."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keyvid import Pipeline, Settings
from keyvid.bundle.manifest import Bundle
from keyvid.errors import BundleError, EngineError, MediaError, SettingsError
from keyvid.runtime.encoding import segment_mel
from keyvid.runtime.journal import Journal
from keyvid.runtime.networks import stages
from keyvid.runtime.report import make_report
from keyvid.runtime.request import Request
from keyvid.runtime.retiming import find_events
from keyvid.sampling import resolve
from keyvid_ref.world.world import TEST_SEEDS, make_clip

pytestmark = pytest.mark.long

SEED = 11
STAGES = [
    "localizer",
    "image_encoder",
    "text_encoder",
    "vae_encoder",
    "audio_encoder",
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


def test_all_of_it_is_reported(animate, bundle, scene, tmp_path):
    reports = []
    settings = Settings(steps=2, guidance_audio=3.0, guidance_until=500)
    clip = animate(
        settings=settings,
        keyframes="uniform",
        progress=lambda *report: reports.append(report),
    )
    assert sorted(clip.timings) == sorted(STAGES)
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
    assert clip.settings == resolve(settings, bundle.sampling)
    assert clip.batches == {"generator": 2, "interpolator": 2}
    for stage in ("generator.b{}.onnx", "interpolator.b{}.windows.onnx"):
        assert [clip.calls[stage.format(branches)] for branches in (2, 1)] == [1, 1]
    assert clip.calls["vae_decoder.onnx"] == size.frames + 1  # and what the picture keeps
    unets = {"generator.b2.onnx": 19.4, "generator.b1.onnx": 11.0}
    unets |= {"interpolator.b2.windows.onnx": 77.9, "interpolator.b1.windows.onnx": 44.4}
    others = 0.56 + 2 * 0.14 + 2 * 0.01 + 0.97 + 2 * 0.59 + 49 * 1.63
    flop = make_report(clip, Pipeline.load("tiny"), {})["flop"]
    assert flop == pytest.approx(1e9 * (sum(unets.values()) + others), rel=0.01)
    clip.save(tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").stat().st_size > 1000


@pytest.mark.parametrize(
    "options",
    [
        {"settings": Settings(steps=0)},
        {"settings": Settings(cfg_batch=5)},
        {"keyframes": "0,1"},
        {"keyframes": "0,4,8,12,16,20,24,28,32,36,40,44", "length": 4},
        {"length": 0},
        {"start": -1.0},
    ],
)
def test_wrong_settings_come_out_before_any_stage_is_opened(options, animate, monkeypatch):
    monkeypatch.setattr(stages, "open_graph", lambda *_: pytest.fail("opened a stage"))
    with pytest.raises(SettingsError):
        animate(**options)


@pytest.fixture(scope="module")
def warm(bundle):
    """A pipeline that several clips are made with."""
    with Pipeline.load(bundle.path, "openvino", threads=1) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def five_seconds(bundle):
    return make_clip(
        TEST_SEEDS[1], bundle.dimensions.height, bundle.dimensions.width, seconds=5, kind="drum"
    )


QUICK = Settings(steps=1)


def test_the_packaged_localizer_hears_for_any_bundle(warm, scene):
    sound = (scene.waveform, 16_000)
    heard = warm(scene.frames[0], sound, settings=QUICK)
    again = warm(scene.frames[0], sound, settings=QUICK, motion="packaged")
    assert np.array_equal(again.motion, heard.motion)
    assert np.array_equal(again.frames, heard.frames)
    told = warm(scene.frames[0], sound, settings=QUICK, motion=heard.motion)
    assert np.array_equal(told.frames, heard.frames), "a report's curve can be given back"
    assert "localizer" not in told.timings
    assert (len(heard.timings), len(told.timings)) == (8, 7), "as `num_stages` counts"
    beats = warm(scene.frames[0], sound, settings=QUICK, beats="0.25,1.5")
    assert {6, 36} <= set(beats.keyframes.tolist())
    assert not beats.remarks


def test_with_beats_the_networks_hear_the_sound_moved_to_them(warm, scene, monkeypatch):
    """The clip keeps the sound as it was given."""
    heard = []

    def hear(stages, mono, start):
        heard.append(mono)
        return segment_mel(stages, mono, start)

    monkeypatch.setattr("keyvid.runtime.pipeline.segment_mel", hear)
    sound = (scene.waveform, 16_000)
    clip = warm(scene.frames[0], sound, settings=QUICK, beats="0.25,1.5")
    moved = warm(scene.frames[0], (heard[0], 16_000), settings=QUICK)
    assert find_events(moved.motion, 24) == pytest.approx([0.25, 1.5], abs=0.042)
    assert np.array_equal(clip.sound.samples[:, 0], scene.waveform)
    warm(scene.frames[0], (heard[0], 16_000), settings=QUICK, beats="0.25,1.5")
    assert np.array_equal(heard[-1], heard[0]), "what is there already stays as it is"
    silent = (np.zeros(32_000, np.float32), 16_000)
    clip = warm(scene.frames[0], silent, settings=QUICK, beats="0.25,1.5")
    assert "nothing is heard in the sound that could be moved to the beats" in clip.remarks
    assert not heard[-1].any()


def test_a_second_clip_is_the_same_and_opens_nothing(warm, scene, monkeypatch):
    sound = (scene.waveform, 16_000)
    options = {"prompt": "drum", "settings": Settings(steps=2, cfg_batch=1)}
    first = warm(scene.frames[0], sound, **options)
    warm(scene.frames[5], sound, settings=QUICK)  # other branches, other inputs bound
    monkeypatch.setattr(stages, "open_graph", lambda *_: pytest.fail("opened a stage"))
    again = warm(scene.frames[0], sound, **options)
    assert np.array_equal(first.frames, again.frames)


def test_threads_take_turns(warm, scene):
    def make(seed):
        return warm(scene.frames[0], (scene.waveform, 16_000), seed=seed, settings=QUICK).frames

    alone = [make(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert all(map(np.array_equal, pool.map(make, range(3)), alone))


def test_a_long_clip_begins_as_the_short_one_and_goes_on(warm, five_seconds):
    sound = (five_seconds.waveform, 16_000)
    options = {"prompt": "drum", "settings": QUICK, "keyframes": "uniform"}
    long = warm(five_seconds.frames[0], sound, length="full", **options)
    short = warm(five_seconds.frames[0], sound, **options)
    assert long.frames.shape[0] == len(long.motion) == 120
    assert len(long.sound.samples) == 80_000
    assert np.array_equal(long.frames[:48], short.frames)
    assert long.keyframes.tolist() == list(range(0, 120, 4))
    cut = warm(five_seconds.frames[0], sound, length=1.5, **options)
    assert len(cut.frames) == len(cut.motion) == 36
    assert len(cut.sound.samples) == 24_000


@pytest.mark.parametrize("options", [{}, {"length": 3.0, "keyframes": "uniform"}])
def test_a_loop_ends_as_it_began(options, warm, five_seconds):
    """The sound goes on at the end; the seam is to be no larger than other steps."""
    sound = (five_seconds.waveform, 16_000)
    first = five_seconds.frames[0]
    clip = warm(first, sound, prompt="drum", end="first", **options)
    assert clip.keyframes[-1] == len(clip.frames) - 1
    steps = np.abs(np.diff(clip.frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    seam = np.abs(clip.frames[0].astype(np.float32) - clip.frames[-1]).mean()
    assert seam < np.percentile(steps, 75)


def test_a_given_last_frame_comes_out_as_the_first_one_does(warm, five_seconds):
    first, last = five_seconds.frames[0], five_seconds.frames[47]
    clip = warm(first, (five_seconds.waveform, 16_000), prompt="drum", end=last)

    def error(made, given):
        return np.abs(made.astype(np.float32) - given).mean()

    assert error(last, first) > 4, "or nothing is tried here"
    assert error(clip.frames[-1], last) < error(clip.frames[0], first) + 1


def test_an_interrupted_clip_goes_on_where_it_was(warm, five_seconds, tmp_path):
    request = Request(
        five_seconds.frames[0],
        (five_seconds.waveform, 16_000),
        settings=Settings(steps=2, solver="ddim", eta=1.0),  # which draws noise at each step
        length=5.0,
    )
    prepared = warm.prepare(request)
    whole = warm.make(prepared)
    reports = []

    def stop_in_the_second_segment(stage, done, total):
        reports.append(stage)
        if stage == "vae_decoder" and reports.count("generator") > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warm.make(prepared, stop_in_the_second_segment, Journal(tmp_path / "parts"))
    reports.clear()
    journal = Journal(tmp_path / "parts", resume=True)
    resumed = warm.make(prepared, lambda stage, *_: reports.append(stage), journal)
    assert reports.count("generator") == 3, "of the last segment alone"
    assert reports.count("interpolator") == 1 + 3, "the second one had all its steps"
    assert np.array_equal(resumed.frames, whole.frames)
    journal.remove()
    assert not (tmp_path / "parts").exists()


def test_a_journal_that_was_not_opened_is_left_alone(warm, five_seconds, tmp_path):
    """After an error before the work, or while another process makes the same clip."""
    sound = (five_seconds.waveform, 16_000)
    request = Request(five_seconds.frames[0], sound, settings=QUICK, length=2.5)
    at_work = Journal(tmp_path / "parts")
    warm.make(warm.prepare(request), None, at_work)
    Journal(tmp_path / "parts", resume=True).remove()
    second = Journal(tmp_path / "parts")
    with pytest.raises(MediaError, match="another process is making this clip"):
        warm.make(warm.prepare(request), None, second)
    second.remove()
    assert (tmp_path / "parts" / "state.npz").exists()
    at_work.remove()
    assert not (tmp_path / "parts").exists()


def test_a_journal_of_another_clip_is_not_taken(warm, five_seconds, tmp_path):
    def prepared(seed):
        sound = (five_seconds.waveform, 16_000)
        request = Request(five_seconds.frames[0], sound, settings=QUICK, seed=seed, length=2.5)
        return warm.prepare(request)

    warm.make(prepared(1), None, Journal(tmp_path / "parts"))
    made = warm.make(prepared(2), None, Journal(tmp_path / "parts", resume=True))
    assert np.array_equal(made.frames, warm.make(prepared(2)).frames)


def test_unknown_bundle_and_engine():
    with pytest.raises(BundleError, match="tiny"):
        Pipeline.load("no-such-bundle")
    with pytest.raises(EngineError, match="onnxruntime"):
        Pipeline.load("tiny", "abacus")
