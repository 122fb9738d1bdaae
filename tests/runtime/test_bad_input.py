"""Whatever is wrong with the input: one line that says it, exit code 2, nothing written or lost."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from keyvid.runtime.jobs.cli import main

Contents = Callable[[Path], dict[str, bytes | None]]


def silent_film(path: Path) -> None:
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(video.encode(frame))
        container.mux(video.encode(None))


def first_half(source: str, path: Path) -> None:
    data = Path(source).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def jpeg_half(path: Path) -> None:
    Image.effect_noise((200, 200), 80).save("whole.jpg")
    first_half("whole.jpg", path)


def with_sample(value: float) -> Callable[[Path], object]:
    wave = np.zeros(32_000)
    wave[4000] = value
    return lambda path: soundfile.write(path, wave, 16_000, subtype="FLOAT")


# Picture name, how it comes about, what is said of it.
PICTURES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("bad.png", lambda path: None, "No such file or directory; check the name"),
    "empty": ("bad.png", Path.touch, r"is empty \(0 bytes\); give a whole file"),
    "truncated png": ("bad.png", lambda path: first_half("picture.png", path), "not a picture"),
    "truncated jpeg": ("bad.jpg", jpeg_half, r"not a picture .*truncated.*; give a whole PNG"),
    "text": ("bad.png", lambda path: path.write_text("hello"), "of a kind that is not read here"),
    "sound": ("bad.png", lambda path: first_half("sound.wav", path), "not a picture"),
    "folder": ("bad.png", Path.mkdir, "is not a file; give the name of one"),
    "bomb": (
        "bad.png",
        lambda path: Image.new("1", (10_000, 10_000)).save(path),
        "has more than 89,478,485 pixels; shrink it first",
    ),
}

SOUNDS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("bad.wav", lambda path: None, "No such file or directory; check the name"),
    "empty": ("bad.wav", Path.touch, r"is empty \(0 bytes\); give a whole file"),
    "truncated": (
        "bad.wav",
        lambda path: first_half("sound.wav", path),
        r"is cut off at 1\.00 s; give the whole file",
    ),
    "truncated header": (
        "bad.wav",
        lambda path: path.write_bytes(Path("sound.wav").read_bytes()[:20]),
        "not a sound that can be read",
    ),
    "text": ("bad.wav", lambda path: path.write_text("hello"), "not a sound that can be read"),
    "picture": (
        "bad.png",
        lambda path: Image.new("RGB", (9, 9)).save(path),
        r"not a sound .*of a kind that is not read here",
    ),
    "folder": ("bad.wav", Path.mkdir, "is not a file; give the name of one"),
    "no samples": (
        "bad.wav",
        lambda path: soundfile.write(path, np.zeros(0), 16_000),
        r"holds no sound \(0 samples\)",
    ),
    "nan": ("bad.wav", with_sample(np.nan), r"1 samples are NaN or infinite, .* 0\.250 s"),
    "infinity": ("bad.wav", with_sample(np.inf), r"1 samples are NaN or infinite, .* 0\.250 s"),
    "silent film": ("bad.mp4", silent_film, "has no sound; give a sound, or a video that has one"),
}


def edit(change: Callable[[dict[str, object]], object]) -> Callable[[Path], object]:
    """A change of the manifest."""

    def apply(folder: Path) -> None:
        manifest = json.loads((folder / "bundle.json").read_text())
        change(manifest)
        (folder / "bundle.json").write_text(json.dumps(manifest))

    return apply


def rename_graph(name: str) -> Callable[[Path], object]:
    """The manifest's one file under another name, wherever it stands."""

    def apply(folder: Path) -> None:
        text = (folder / "bundle.json").read_text()
        (folder / "bundle.json").write_text(text.replace("unet.onnx", name))

    return apply


def to_link(folder: Path) -> None:
    (folder / "unet.onnx").rename(folder.parent / "elsewhere")
    (folder.parent / "secret").write_bytes(b"not it")
    (folder / "unet.onnx").symlink_to(folder.parent / "secret")


BUNDLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda folder: (folder / "bundle.json").unlink(), r"bundle\.json: missing"),
    "no json": (
        lambda folder: (folder / "bundle.json").write_text("{"),
        r"bundle\.json: Expecting",
    ),
    "missing file": (lambda folder: (folder / "unet.onnx").unlink(), r"unet\.onnx: missing"),
    "wrong size": (lambda folder: (folder / "unet.onnx").write_bytes(b"short"), "5 bytes, bundle"),
    "wrong hash": (lambda folder: (folder / "unet.onnx").write_bytes(b"not it"), "sha256"),
    "newer schema": (edit(lambda manifest: manifest.update(schema=99)), "schema 99 is newer"),
    "unknown key": (edit(lambda manifest: manifest.update(colour="red")), "colour"),
    "leaves the folder": (rename_graph("../sound.wav"), r"'\.\./sound\.wav' is not a plain name"),
    "absolute path": (rename_graph("/etc/passwd"), "'/etc/passwd' is not a plain name"),
    "link": (to_link, r"unet\.onnx: sha256"),
}

OPTIONS: dict[str, tuple[list[str], str]] = {
    "engine": (
        ["--engine", "gpu"],
        "unknown engine 'gpu'; valid are auto, tensorrt, tensorrt-rtx, cuda, op",
    ),
    "bundle": (["--bundle", "nowhere"], "nowhere: no such folder; .*a packaged bundle: tiny"),
    "bundle file": (["--bundle", "sound.wav"], r"sound\.wav: is no folder"),
    "solver": (["--solver", "euler"], "solver euler: want one of ddim, dpm"),
    "temporal": (["--temporal", "half"], "temporal half: want one of windows, full"),
    "no steps": (["--steps", "0"], "steps 0: want a whole number, 1 to 1000"),
    "too many steps": (["--steps", "1001"], "steps 1001: want a whole number, 1 to 1000"),
    "eta": (["--eta", "1.5"], r"eta 1\.5: want a number from 0 to 1"),
    "rescale": (["--guidance-rescale", "nan"], "guidance-rescale nan: want a number from 0 to 1"),
    "guidance": (["--guidance-audio", "inf"], "guidance-audio inf: want a finite number"),
    "no number": (["--guidance-text", "much"], "'much' is not a valid float"),
    "cfg batch": (["--cfg-batch", "5"], "cfg-batch 5: want one of 1, 2, 4"),
    "seed": (["--seed", "-1"], "seed -1: want a whole number"),
    "memory": (["--max-memory", "much"], "'much' is no size; write it as 12G, 1.5GiB or 800M"),
    "no memory": (["--max-memory", "0G"], "'0G' is no size"),
    "too little memory": (
        ["--bundle", "tiny", "--engine", "onnxruntime", "--max-memory", "1M"],
        r"interpolator: takes [0-9.]+ [MG]B of memory .*, max-memory is 1 MB; raise it",
    ),
    "threads": (["--threads", "0"], "0 is not in the range 1<=x<=1024"),
    "keyframes": (["--keyframes", "best"], "keyframes 'best'"),
    "keyframes beyond": (["--keyframes", "0,1,2,3,4,5,6,7,8,9,10,48"], "keyframes '0,1"),
    "few keyframes": (["--keyframes", "0,5"], "keyframes '0,5': 2 given"),
    "late start": (["--start", "9"], r"start is 9 s, beyond the end of .* lasts 2\.00 s; start"),
    "negative start": (["--start", "-1"], r"start is -1.*; expected seconds from 0 to 86400"),
    "negative length": (["--length", "-3"], r"length is -3; expected seconds from 0\.04 to 3600"),
    "unknown option": (["--fps", "30"], r"No such option.*See keyvid-infer --help\."),
    "third file": (["more.wav"], r"unexpected extra argument.*See keyvid-infer --help\."),
    "output folder": (["-o", "no/a.mp4"], r"no/a\.mp4: .* there is no folder no; create it"),
    "output type": (["-o", "a.avi"], r"a\.avi: .*give a name that ends in \.mp4"),
    "report type": (["--report", "a.txt"], r"a\.txt: .*give a name that ends in \.json"),
    "plot type": (["--plot", "a.jpg"], r"a\.jpg: .*give a name that ends in \.png"),
    "plot over input": (["--plot", "picture.png"], r"picture\.png: would overwrite the input"),
    "report folder": (["--report", "no/a.json"], "there is no folder no"),
}


def check_refusal(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    contents: Contents,
) -> None:
    """See that `keyvid-infer` says `message` (a pattern) on one line, exits with 2, did nothing."""
    before = contents(Path.cwd())
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(rf"keyvid-infer: [^\n]*{message}[^\n]*\n", printed.err), printed.err
    assert contents(Path.cwd()) == before


@pytest.mark.parametrize("case", PICTURES)
def test_picture(
    case: str, workplace: Path, capsys: pytest.CaptureFixture[str], contents: Contents
) -> None:
    name, make, message = PICTURES[case]
    make(Path(name))
    arguments = [name, "sound.wav", "--bundle", "hollow"]
    check_refusal(arguments, f"{re.escape(name)}: [^\n]*{message}", capsys, contents)


@pytest.mark.parametrize("case", SOUNDS)
def test_sound(
    case: str, workplace: Path, capsys: pytest.CaptureFixture[str], contents: Contents
) -> None:
    name, make, message = SOUNDS[case]
    make(Path(name))
    arguments = ["picture.png", name, "--bundle", "hollow"]
    check_refusal(arguments, f"{re.escape(name)}: [^\n]*{message}", capsys, contents)


@pytest.mark.parametrize("case", BUNDLES)
def test_bundle(
    case: str, workplace: Path, capsys: pytest.CaptureFixture[str], contents: Contents
) -> None:
    damage, message = BUNDLES[case]
    damage(workplace / "hollow")
    arguments = ["picture.png", "sound.wav", "--bundle", "hollow"]
    check_refusal(arguments, message, capsys, contents)


@pytest.mark.parametrize("case", OPTIONS)
def test_option(
    case: str, workplace: Path, capsys: pytest.CaptureFixture[str], contents: Contents
) -> None:
    options, message = OPTIONS[case]
    arguments = ["picture.png", "sound.wav", "--bundle", "hollow", *options]
    check_refusal(arguments, message, capsys, contents)


def test_sound_before_picture(
    workplace: Path, capsys: pytest.CaptureFixture[str], contents: Contents
) -> None:
    order = r"first, then AUDIO, as in: picture\.png sound\.wav\."
    check_refusal(["sound.wav", "picture.png"], order, capsys, contents)


@pytest.mark.parametrize("arguments", [[], ["picture.png"]])
def test_missing_arguments(
    arguments: list[str], workplace: Path, capsys: pytest.CaptureFixture[str], contents: Contents
) -> None:
    check_refusal(arguments, "Missing argument", capsys, contents)


def test_sound_of_a_video_is_not_overwritten_by_default(
    workplace: Path, capsys: pytest.CaptureFixture[str], contents: Contents
) -> None:
    """picture.png and picture.mp4 would give picture.mp4."""
    Path("picture.mp4").write_bytes(Path("sound.wav").read_bytes())
    arguments = ["picture.png", "picture.mp4", "--bundle", "hollow"]
    check_refusal(arguments, r"picture\.mp4: would overwrite the input", capsys, contents)


def test_full_disk_is_found_before_the_work(workplace: Path, contents: Contents) -> None:
    """A limit on file sizes makes writing fail as a full disk does, and needs no rights."""
    Path("picture.mp4").write_bytes(b"an older result")
    before = contents(workplace)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    run = "import sys; from keyvid.runtime.jobs.cli import main; sys.exit(main(sys.argv[1:]))"
    code = f"{limit}; {run}"
    done = subprocess.run(
        [sys.executable, "-c", code, "picture.png", "sound.wav", "--bundle", "hollow"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "keyvid-infer: picture.mp4: cannot be written: File too large; choose another folder\n"
    )
    assert contents(workplace) == before
