"""Reads damaged files in a process of its own: `python -m tests.mutation.worker KIND SEED COUNT`.

Prints a line of JSON per case before it begins and when it is done, so that whoever reads them
knows which case a process died of or hangs in. The last line has the most memory that was taken.
"""

import io
import json
import logging
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from keyvid.bundle.manifest import MANIFEST
from keyvid.bundle.specs import FileSpec
from keyvid.errors import KeyvidError
from keyvid.runtime.media.picture import load_image
from keyvid.runtime.media.sound import load_sound, read_sound, sound_duration, to_mono
from keyvid.runtime.pipeline import Pipeline
from tests.mutation.damage import damaged

CASES = Path(__file__).parents[1] / "cases"
BUNDLE = Path(str(sys.modules["keyvid"].__path__[0])) / "bundles" / "tiny"

_PICTURES = (
    ("png", {}),
    ("jpeg", {}),
    ("jpeg", {"progressive": True}),
    ("gif", {}),
    ("webp", {}),
    ("webp", {"lossless": True}),
    ("bmp", {}),
    ("tiff", {}),
    ("tiff", {"compression": "tiff_lzw"}),
    ("tiff", {"compression": "jpeg"}),
    ("tga", {}),
    ("ppm", {}),
    ("ico", {}),
    ("jpeg2000", {}),
)
_RECORDINGS = (".m4a", ".mkv", ".mp3", ".mp4")
_MODES = ("RGB", "L", "P", "RGBA", "CMYK", "1", "I;16")
_SOUNDS = (
    ("wav", "PCM_16"),
    ("wav", "FLOAT"),
    ("wav", "MS_ADPCM"),
    ("aiff", None),
    ("flac", None),
    ("ogg", "VORBIS"),
    ("ogg", "OPUS"),
    ("mp3", None),
    ("caf", None),
    ("au", None),
)


class _Enough(Exception):  # noqa: N818 (it is no error)
    """Ends a clip after its first stage."""


def read_picture(rng: random.Random) -> None:
    """Read a damaged picture of any format, in any way."""
    path = Path("picture")
    whole = rng.choice(
        (*sorted(CASES.glob("*.jpg")), *sorted(CASES.glob("*.png")), None, None, None, None)
    )
    path.write_bytes(damaged(whole.read_bytes() if whole else _picture(rng), rng))
    image = load_image(
        str(path) if rng.random() < 0.8 else io.BytesIO(path.read_bytes()),
        *rng.choice(((64, 96), (320, 512))),
        fit=rng.choice(("crop", "pad")),
        position=(rng.random(), rng.random()),
    )
    assert image.dtype == np.uint8
    assert image.shape in ((64, 96, 3), (320, 512, 3))


def _picture(rng: random.Random) -> bytes:
    form, options = rng.choice(_PICTURES)
    with Image.open(CASES / "portrait.png") as portrait:
        image = portrait.convert("RGB").resize((rng.choice((1, 60, 200)), rng.choice((1, 90))))
    buffer = io.BytesIO()
    try:
        with _silent_stderr():
            mode = rng.choice(_MODES)
            if options.get("compression") == "jpeg":  # of 16 bits, Pillow 12.3 dies of it
                mode = "RGB"
            image.convert(mode).save(buffer, form, **options)
    except (OSError, KeyError, ValueError):  # not every format has every mode
        image.save(buffer, form, **options)
    return buffer.getvalue()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Nothing reaches file descriptor 2: libtiff prints there what it thinks of odd modes."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def read_a_sound(rng: random.Random) -> None:
    """Read a part of a damaged sound of any format."""
    path = Path("sound")
    recordings = [
        path for path in CASES.iterdir() if path.suffix in (".m4a", ".mp3", ".mp4", ".mkv")
    ]
    whole = rng.choice((*sorted(recordings), None, None, None, None))
    path.write_bytes(damaged(whole.read_bytes() if whole else _sound(rng), rng))
    source = str(path) if rng.random() < 0.8 else io.BytesIO(path.read_bytes())
    start = rng.choice((0.0, 0.0, 0.7, 1.9, 100.0))
    if rng.random() < 0.2:
        assert np.isfinite(read_sound(source, start=start).samples).all()
    elif rng.random() < 0.2:
        assert sound_duration(source) >= 0
    else:
        mono = to_mono(load_sound(source, 2.0, start), 16_000, 2.0)
        assert mono.shape == (32_000,)
        assert np.isfinite(mono).all()


def _sound(rng: random.Random) -> bytes:
    form, subtype = rng.choice(_SOUNDS)
    rate = rng.choice((8_000, 16_000, 48_000))
    wave = 0.5 * np.sin(np.arange(round(2.5 * rate)) * 0.3)
    samples = np.stack([wave] * rng.choice((1, 2)), 1).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def run_graph(rng: random.Random) -> None:
    """Run the first stage of a bundle whose graph is damaged, but has the right sha256."""
    _run_stage_with("localizer.onnx", rng)


def run_weights(rng: random.Random) -> None:
    """The same with damaged weights."""
    _run_stage_with("localizer.safetensors", rng)


def _run_stage_with(name: str, rng: random.Random) -> None:
    folder = Path("bundle")
    folder.mkdir()
    for file in BUNDLE.iterdir():
        if file.name not in (name, MANIFEST):
            try:
                os.link(file, folder / file.name)
            except OSError:  # another file system
                (folder / file.name).write_bytes(file.read_bytes())
    (folder / name).write_bytes(damaged((BUNDLE / name).read_bytes(), rng))
    manifest = json.loads((BUNDLE / MANIFEST).read_text())
    spec = FileSpec.of(folder / name)
    manifest["files"][name] = {"bytes": spec.bytes, "sha256": spec.sha256}
    (folder / MANIFEST).write_text(json.dumps(manifest))

    def stop(stage: str, done: int, total: int) -> None:
        if done == total:
            raise _Enough

    pipeline = Pipeline.load(folder, rng.choice(("onnxruntime", "openvino")), threads=1)
    wave = 0.5 * np.sin(np.arange(32_000) * 0.3, dtype=np.float32)
    picture = np.zeros((64, 96, 3), np.uint8)
    try:
        pipeline(picture, (wave, 16_000), progress=stop)
    except _Enough:
        return


KINDS: dict[str, Callable[[random.Random], None]] = {
    "pictures": read_picture,
    "sounds": read_a_sound,
    "graphs": run_graph,
    "weights": run_weights,
}


def attempt(kind: str, seed: int) -> str:
    """Run a case in an empty folder; what is wrong with how it ended, or ""."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            KINDS[kind](random.Random(f"{kind} {seed}"))
        except KeyvidError as error:
            if "\n" in str(error) or len(str(error)) > 1000:
                return f"not a line: {error}"
        except Exception:
            return traceback.format_exc()
        finally:
            os.chdir("/")
        left = [path.name for path in Path(folder).iterdir()]
        return "" if len(left) <= 1 else f"left behind: {left}"


def main(*cases: str) -> None:
    """Run cases: a kind, the first seed and how many, and so on."""
    logging.getLogger("keyvid").addHandler(logging.NullHandler())
    logging.getLogger("keyvid").propagate = False
    for kind, first, count in zip(cases[::3], cases[1::3], cases[2::3], strict=True):
        for seed in range(int(first), int(first) + int(count)):
            _say(begun=f"{kind} {seed}")
            began = time.process_time()
            wrong = attempt(kind, seed)
            _say(done=f"{kind} {seed}", wrong=wrong, cpu_seconds=time.process_time() - began)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    _say(peak=next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0))


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
