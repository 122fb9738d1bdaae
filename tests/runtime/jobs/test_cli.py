"""`keyvid-infer`: options reach the pipeline, results come out, and nothing else is left."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from keyvid.bundle.manifest import Bundle, find_bundle
from keyvid.bundle.specs import Dimensions
from keyvid.engines.engine import EngineChoice
from keyvid.runtime.clip import Clip
from keyvid.runtime.jobs import cli
from keyvid.runtime.journal import Journal
from keyvid.runtime.networks.stages import Progress
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.request import Prepared, Request, load_inputs
from keyvid.sampling import Settings, UNetSettings


@pytest.fixture
def calls(workplace: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands in for loading and sampling: what the pipeline was asked for, `clip` in return."""
    asked: list[dict[str, Any]] = []

    def load(bundle: str, engine: str, **limits: int | None) -> Pipeline:
        asked.append({"bundle": bundle, "engine": engine, **limits})
        return Pipeline(Bundle.load("hollow"), EngineChoice("onnxruntime", "asked for"), **limits)

    def prepare(self: Pipeline, request: Request) -> Prepared:
        asked.append({"request": request})
        return real_prepare(self, request)

    def sample(self: Pipeline, prepared: Prepared, progress: Progress, journal: Journal) -> Clip:
        for stage, total in (("localizer", 1), ("generator", 3)):
            for done in range(total + 1):
                progress(stage, done, total)
        return clip

    real_prepare = Pipeline.prepare

    monkeypatch.setattr(Pipeline, "load", load)
    monkeypatch.setattr(Pipeline, "prepare", prepare)
    monkeypatch.setattr(Pipeline, "make", sample)
    return asked


def test_result_beside_where_the_user_stands(
    calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("pictures")
    folder.mkdir()
    Path("picture.png").rename(folder / "a.b.png")
    assert cli.main(["pictures/a.b.png", "sound.wav"]) == 0
    assert capsys.readouterr().out == "a.b.mp4\n"
    with av.open("a.b.mp4") as container:
        assert container.streams.video[0].frames == 48
    assert list(folder.iterdir()) == [folder / "a.b.png"]


def test_defaults(calls: list[dict[str, Any]]) -> None:
    assert cli.main(["picture.png", "sound.wav"]) == 0
    assert calls == [
        {"bundle": "tiny", "engine": "auto", "threads": None, "max_memory": None},
        {"request": Request("picture.png", "sound.wav")},
    ]


def test_every_option_arrives(
    calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = (
        "-o out.mp4 --prompt hammer --seed 5 --steps 10 --eta 0.5 --solver dpm --guidance-image 1.5"
        " --guidance-text 2.5 --guidance-audio 3.5 --interpolator-guidance-audio 4.5"
        " --guidance-rescale 0.25 --temporal full --keyframes uniform --start 0:01.25"
        " --length full --fit pad --position 0.5,0.2"
        " --engine openvino --bundle hollow --cfg-batch 2 --threads 3 --max-memory 1.5G"
    )
    assert cli.main(["picture.png", "sound.wav", *options.split()]) == 0
    assert capsys.readouterr().out == "out.mp4\n"
    limits = {"threads": 3, "max_memory": 1_500_000_000}
    assert calls[0] == {"bundle": "hollow", "engine": "openvino", **limits}
    settings = Settings(
        steps=10,
        eta=0.5,
        solver="dpm",
        guidance_image=1.5,
        guidance_text=2.5,
        guidance_audio=3.5,
        interpolator=UNetSettings(guidance_audio=4.5),
        guidance_rescale=0.25,
        temporal="full",
        cfg_batch=2,
    )
    assert calls[1]["request"] == Request(
        "picture.png",
        "sound.wav",
        prompt="hammer",
        seed=5,
        settings=settings,
        keyframes="uniform",
        start="0:01.25",
        length="full",
        fit="pad",
        position="0.5,0.2",
    )


@pytest.mark.parametrize(
    ("text", "size"), [("12G", 12e9), ("12gb", 12e9), ("800M", 8e8), ("64K", 64e3), ("123", 123)]
)
def test_sizes_as_people_write_them(calls: list[dict[str, Any]], text: str, size: float) -> None:
    assert cli.main(["picture.png", "sound.wav", "--max-memory", text]) == 0
    assert calls[0]["max_memory"] == size


def test_fit_and_position_shape_the_picture(dimensions: Dimensions, workplace: Path) -> None:
    tall = np.zeros((300, 96, 3), np.uint8)
    tall[:64] = 255
    sound = (np.ones(32_000, np.float32), 16_000)

    def white(**options: Any) -> float:
        request = Request(tall, sound, **options)
        return float((load_inputs(request, dimensions).picture > 250).mean())

    assert white(position="top") == 1.0
    assert white(position="bottom") == 0.0
    assert 0 < white(fit="pad") < 1


def test_scale(calls: list[dict[str, Any]]) -> None:
    assert cli.main(["picture.png", "sound.wav", "--scale", "2"]) == 0
    with av.open("picture.mp4") as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (192, 128)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-memory", "9" * 310], "is no size"),
        (["--max-memory", "0"], "is no size"),
        (["--threads", "9" * 310], "is not in the range"),
        (["--seed", "9" * 310], "seed 9+: want"),
        (["--steps", "1e308"], "is not a valid integer"),
        (["--guidance-text", "1e999"], "guidance-text inf: want a finite number"),
        (["--interpolator-steps", "0"], "interpolator-steps 0: want a whole number"),
        (["--start", "1e308"], r"start is 1e308; expected seconds"),
        (["--scale", "0"], "scale 0: want a whole number from 1"),
        (["--fit", "stretch"], "fit 'stretch': want one of crop, pad"),
        (["--position", "2,2"], "crop position is 2,2"),
        (["--keyframes", "9" * 310], "keyframe"),
    ],
)
def test_odd_values_are_one_line(
    options: list[str], message: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["picture.png", "sound.wav", "--bundle", "hollow", *options]
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    *notes, line = printed.err.splitlines()
    assert re.match(f"keyvid-infer: .*{message}", line)
    assert all(note.startswith("keyvid-infer: ") for note in notes)


@pytest.mark.parametrize("image", ["", ".", "/", "x" * 300, "\udcff.png", "nul\0.png"])
def test_odd_names_are_one_line(
    image: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([image, "sound.wav", "--bundle", "hollow"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_report_and_plot(calls: list[dict[str, Any]]) -> None:
    options = ["--report", "a.json", "--plot", "a.png", "--start", "0.5"]
    assert cli.main(["picture.png", "sound.wav", *options]) == 0
    report = json.loads(Path("a.json").read_text())
    assert report["inputs"] == {
        "image": "picture.png",
        "audio": "sound.wav",
        "output": "picture.mp4",
        "scale": 1,
        "prompt": "",
        "seed": 0,
        "start": "0.5",
        "length": None,
        "fit": "crop",
        "position": "centre",
        "keyframes": "auto",
        "motion": "auto",
        "beats": None,
        "end": None,
        "track": None,
    }
    with Image.open("a.png") as plot:
        assert plot.width == 1200


def test_an_interruption_says_what_is_written(
    calls: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("keyvid.runtime.outputs.write_report", interrupt)
    options = ["--report", "a.json", "--plot", "a.png"]
    assert cli.main(["picture.png", "sound.wav", *options]) == 130
    assert capsys.readouterr() == (
        "",
        "keyvid-infer: interrupted, picture.mp4 written, not a.json and a.png\n",
    )
    assert Path("picture.mp4").exists()


def test_the_last_line_is_short(
    calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["picture.png", "sound.wav"]) == 0
    assert capsys.readouterr().err == "picture.mp4: 48 frames in 4 s on onnxruntime\n"
    assert cli.main(["picture.png", "sound.wav", "-v", "-o", "new.mp4"]) == 0
    reason, last = capsys.readouterr().err.splitlines()
    assert reason == "keyvid-infer: onnxruntime: asked for"
    assert last == "new.mp4: 48 frames in 4 s on onnxruntime"


def least() -> None:
    """One pixel, and a tenth of a second of silence."""
    Image.new("RGB", (1, 1), "red").save("picture.png")
    soundfile.write("sound.wav", np.zeros(1_600), 16_000)


def most() -> None:
    """A very wide picture, and five seconds of stereo at another rate."""
    Image.new("RGB", (20_000, 300), "blue").save("picture.png")
    wave = np.random.default_rng(0).normal(0, 0.1, (5 * 44_100, 2))
    soundfile.write("sound.wav", wave, 44_100)


@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "options", "notes"),
    [
        (least, [], ["silent", "0.10 s of sound, the rest of 2 s is silence"]),
        (most, ["--start", "2.5"], ["lasts 5.00 s, used from 2.5 s to 4.5 s"]),
    ],
)
def test_unusual_input_gives_a_clip(
    make: Callable[[], None],
    options: list[str],
    notes: list[str],
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All networks of the packaged bundle, a step each: enough to see that numbers stay finite."""
    make()
    before = set(Path().iterdir())
    assert cli.main(["picture.png", "sound.wav", "--steps", "1", "--threads", "1", *options]) == 0
    assert capsys.readouterr().out == "picture.mp4\n"
    assert all(note in caplog.text for note in notes)
    assert set(Path().iterdir()) - before == {Path("picture.mp4")}
    with av.open("picture.mp4") as container:
        assert (container.streams.video[0].frames, container.duration) == (48, 2_000_000)


@pytest.mark.parametrize(("given", "missing"), [([], "IMAGE"), (["picture.png"], "AUDIO")])
def test_both_inputs_are_needed(
    given: list[str], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(given) == 2
    assert f"Missing argument '{missing}'." in capsys.readouterr().err


def test_who_looks_for_a_loop_finds_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["a.png", "a.wav", "--loop"]) == 2
    assert "No such option '--loop'. Did you mean '--end first'?" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("keyvid-infer 0.")


def test_help_comes_at_once() -> None:
    code = (
        "import sys; from keyvid.runtime.jobs.cli import main; main(['--help']);"
        "print('LOADED', *sorted({'numpy', 'av', 'PIL', 'onnxruntime'} & set(sys.modules)))"
    )
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time: what the clock says depends on what else the machine does.
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    sampling = json.loads((find_bundle("tiny") / "bundle.json").read_text())["sampling"]
    steps = sampling["interpolator"]["steps"]
    assert re.search(rb"--interpolator-steps [^\[]*\[default: %d\]" % steps, done.stdout)
    assert done.stdout.endswith(b"LOADED\n")
    assert min(seconds) < 0.5


ENDLESS = """
import signal, sys, time
from keyvid.runtime.jobs import cli
from keyvid.runtime.pipeline import Pipeline

def sample(self, prepared, progress, journal):
    print("sampling", file=sys.stderr, flush=True)
    time.sleep(60)

Pipeline.make = sample
# A shell starts background jobs, these tests perhaps among them, with the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(cli.main(["picture.png", "sound.wav", "--bundle", "hollow"]))
"""


def test_interrupt_leaves_nothing(
    workplace: Path, contents: Callable[[Path], dict[str, bytes | None]]
) -> None:
    Path("picture.mp4").write_bytes(b"an older result")
    before = contents(workplace)
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stderr is not None
    try:
        assert process.stderr.readline() == "sampling\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 130
    assert out == ""
    assert err.strip() == "keyvid-infer: interrupted, nothing written"
    assert contents(workplace) == before


@pytest.mark.slow
def test_a_clip_on_a_processor_without_avx2(tmp_path: Path) -> None:
    """OpenVINO cannot compile there; `auto` makes the clip with ONNX Runtime."""
    example = Path(find_bundle("tiny")).parents[1] / "examples/hammer"
    run = "import sys; from keyvid.runtime.jobs.cli import main; sys.exit(main())"
    files = [f"{example}.png", f"{example}.wav", "-o", f"{tmp_path}/clip.mp4"]
    done = subprocess.run(
        [sys.executable, "-c", run, *files, "--steps", "1", "--interpolator-steps", "1"],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "on openvino" in done.stderr:
        pytest.skip("not a processor that has AVX2 and can do without")
    assert done.returncode == 0, done.stderr
    assert "48 frames in" in done.stderr
    assert done.stderr.endswith("on onnxruntime\n")
    assert (tmp_path / "clip.mp4").stat().st_size > 1000
