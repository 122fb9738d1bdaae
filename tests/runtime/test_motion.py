"""Motion as it is told: each way of telling it gives the same curve, and mistakes are lines."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.errors import KeyvidError
from keyvid.runtime.diffusion.keyframes import select_keyframes
from keyvid.runtime.localizer import num_stages
from keyvid.runtime.motion import (
    at_other_rate,
    draw_beats,
    keyframes_text,
    read_beats,
    read_motion,
)
from keyvid.runtime.request import Request, prepare

CURVE = np.round(np.random.default_rng(0).random(48), 4)
TIMES = np.arange(48) / 24


def texts() -> dict[str, str]:
    rows = [*zip(TIMES, CURVE, strict=True)]
    return {
        "a.csv": "\n".join(map(str, CURVE)),
        "b.csv": "motion\r\n" + "\r\n".join(map(str, CURVE)) + "\r\n",
        "c.csv": ",".join(map(str, CURVE)) + "\n",
        "d.csv": "\ufefftime;score\n" + "\n".join(f"{t};{v}" for t, v in rows),
        "h.csv": "time;score\n" + "\n".join(f"{t};{v}" for t, v in rows).replace(".", ","),
        "i.csv": "time\tscore\n" + "\n".join(f"{t}\t{v}" for t, v in rows).replace(".", ","),
        "j.csv": ";".join(map(str, CURVE)).replace(".", ","),
        "k.csv": "\n".join(f"{t},\t{v}" for t, v in rows),
        "e.json": json.dumps(CURVE.tolist()),
        "f.json": json.dumps([[t, v] for t, v in rows]),
        "g.json": json.dumps({"seed": 0, "motion": CURVE.tolist()}),  # a report
    }


@pytest.mark.parametrize("name", texts())
def test_files_of_a_curve(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(texts()[name])
    motion = read_motion(tmp_path / name, None, 48, 24)
    assert motion is not None
    assert motion.dtype == np.float32
    assert np.allclose(motion, CURVE, atol=1e-6)


@pytest.mark.parametrize(
    "told",
    [
        CURVE,
        CURVE.tolist(),
        ",".join(map(str, CURVE)),
        f"[{', '.join(map(str, CURVE))}]",
        np.stack([TIMES, CURVE], axis=1).astype(np.float32),
    ],
)
def test_values_of_a_curve(told: Any) -> None:
    motion = read_motion(told, None, 48, 24)
    assert motion is not None
    assert np.allclose(motion, CURVE, atol=1e-6)


def test_an_array_of_numpy(tmp_path: Path) -> None:
    np.save(tmp_path / "motion.npy", CURVE.astype(np.float16))
    motion = read_motion(str(tmp_path / "motion.npy"), None, 48, 24)
    assert np.allclose(motion, CURVE, atol=1e-3)  # type: ignore[arg-type]


def test_times_between_frames_are_interpolated() -> None:
    motion = read_motion([(0.0, 0.0), (1.0, 1.0)], None, 48, 24)
    assert motion is not None
    assert np.allclose(motion, np.minimum(TIMES, 1.0))


def test_beats_are_keyframes() -> None:
    times = [0.5, 1.2, 1.72]
    motion = read_motion("auto", read_beats("0.5, 1.72,1.2,0.5", 48, 24), 48, 24)
    assert motion is not None
    assert np.array_equal(motion, draw_beats(np.array(times), 48, 24))
    frames = [round(time * 24) for time in times]
    assert {*frames} <= {*select_keyframes(motion, 12).tolist()}
    assert motion[frames].tolist() == [1.0, 1.0, 1.0]
    assert motion[frames[0] + 6] < 0.1
    assert not draw_beats(np.array([]), 48, 24).any()


@pytest.mark.parametrize(
    ("motion", "beats", "message"),
    [
        ("loud", None, "motion is 'loud'; want auto, packaged, a value for each frame"),
        ("0,1,x", None, "motion is '0,1,x'"),
        ("0,nan", None, "holds NaN or infinity"),
        (np.zeros(47), None, "holds 47 values; want one for each of the 48 frames"),
        (np.zeros((3, 4)), None, "holds 3 x 4 values"),
        (3.0, None, "holds 1 value; want"),
        (object(), None, "motion is "),
        ([(0.0, 1.0), (0.0, 2.0)], None, "not in ascending order"),
        ("auto", "2.5", "beats: 2.5 s is outside the clip, which lasts 2.00 s"),
        ("auto", "soon", "beats is 'soon'; want numbers such as 0.5,1.2"),
        ("auto", 3, "beats is '3'; want numbers"),
        ("packaged", "0.5", "motion and beats are both given"),
        ("no-such.npy", None, "no-such.npy: No such file"),
    ],
)
def test_mistakes(motion: Any, beats: Any, message: str) -> None:
    with pytest.raises(KeyvidError, match=message):
        read_motion(motion, read_beats(beats, 48, 24), 48, 24)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", b"\x93NUMPY"),
        ("a.npy", b"none"),
        ("a.csv", b"a,b\n1,x\n"),
        ("a.csv", b"1,2\n3\n"),
        ("a.csv", b"\xff\xfe"),
        ("a.json", b"{}"),
        ("a.json", b"[1, [2]]"),
        ("a.json", b"[" * 5000),
        ("a.json", b'{"motion": "x"}'),
    ],
)
def test_damaged_files(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KeyvidError) as caught:
        read_motion(tmp_path / name, None, 48, 24)
    assert "\n" not in str(caught.value)
    assert "[" not in str(caught.value), "what the file holds is told in words"


def test_an_array_of_objects_is_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(KeyvidError, match="allow_pickle"):
        read_motion(tmp_path / "a.npy", None, 48, 24)


def test_keyframes_of_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "keyframes.npy", np.arange(0, 48, 4))
    assert keyframes_text(tmp_path / "keyframes.npy") == ",".join(map(str, range(0, 48, 4)))
    assert keyframes_text("uniform") == "uniform"
    np.save(tmp_path / "half.npy", np.arange(12) / 2)
    with pytest.raises(KeyvidError, match="no row of frame numbers"):
        keyframes_text(str(tmp_path / "half.npy"))


def test_another_rate() -> None:
    assert np.allclose(at_other_rate(np.arange(24.0), 24, 8, 8), np.arange(0, 24, 3))


@pytest.fixture
def without_localizer() -> Bundle:
    """The packaged bundle as it is without one."""
    bundle = Bundle.load("tiny")
    return replace(bundle, stages={k: v for k, v in bundle.stages.items() if k != "localizer"})


def test_a_bundle_without_a_localizer(without_localizer: Bundle) -> None:
    size = without_localizer.dimensions
    picture = np.full((size.height, size.width, 3), 90, np.uint8)
    sound = (np.full(32_000, 0.1, np.float32), 16_000)

    def prepared(**told: Any) -> Any:
        return prepare(Request(picture, sound, **told), without_localizer)

    with pytest.raises(KeyvidError, match="has no localizer; want motion"):
        prepared()
    for keyframes in ("uniform", ",".join(map(str, range(12)))):
        with pytest.raises(KeyvidError, match="keyframes and beats are both given; want one of"):
            prepared(keyframes=keyframes, beats="0.5")
    assert prepared(motion="packaged").packaged_localizer
    assert prepared(motion=CURVE).motion.shape == (48,)
    assert prepared(beats=(0.5, 1.0)).motion.max() == 1.0
    assert not prepared(keyframes="uniform").motion.any()
    counts = [
        num_stages(without_localizer, prepared(**told))
        for told in ({"motion": "packaged"}, {"motion": CURVE}, {"beats": (0.5, 1.0)})
    ]
    assert counts == [8, 7, 8], "the packaged model's joins where something is heard"
    assert prepared(motion=CURVE, beats=None).asked["motion"] == CURVE.tolist()
    assert json.dumps(prepared(beats=(0.5, 1.0)).asked)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [(5, "prompt is a int; want text"), ("h\udce4mmer", "holds bytes that are no text")],
)
def test_prompts_that_are_none(prompt: Any, message: str) -> None:
    picture, sound = np.zeros((96, 160, 3), np.uint8), (np.full(32_000, 0.1, np.float32), 16_000)
    with pytest.raises(KeyvidError, match=message):
        prepare(Request(picture, sound, prompt=prompt), Bundle.load("tiny"))
    assert prepare(Request(picture, sound, prompt=None), Bundle.load("tiny")).prompt == ""
