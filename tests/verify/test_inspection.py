"""What a clip tells by itself: as it was written, changed, cut, encoded anew, copied."""

import io
import re
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from keyvid.runtime.media.video import write_video
from keyvid.verify.finding import summary
from keyvid.verify.verification import AtHand
from tests.verify.changes import CHANGES, Change, apply, found
from tests.verify.made import made_clip

SUFFIXES = (".mp4", ".webm", ".webp")
WITH_SOUND = (".mp4", ".webm")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same clip in each container."""
    folder = tmp_path_factory.mktemp("clips")
    for suffix in SUFFIXES:
        made_clip().save(folder / f"a{suffix}")
    return {suffix: folder / f"a{suffix}" for suffix in SUFFIXES}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_clip_is_as_it_was_written(suffix: str, clips: dict[str, Path]) -> None:
    findings = found(clips[suffix])
    assert {one.verdict for one in findings.values()} == {"good"}
    assert findings["file"].text == "as it was written, every byte"
    assert ("sound" in findings) == (suffix in WITH_SOUND)
    assert findings["receipt"].text == "keyvid 0.1.0, made, onnxruntime (fp32), seed 7"


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_single_change_is_named(
    suffix: str, change: Change, clips: dict[str, Path], tmp_path: Path
) -> None:
    if suffix not in WITH_SOUND and change.part == "sound":
        pytest.skip("it has no sound")
    target = tmp_path / f"b{suffix}"
    words = apply(change, clips[suffix], target, np.random.default_rng(3))
    findings = found(target)
    assert findings[change.part].verdict == change.verdict
    assert words in findings[change.part].text
    others = {p: f for p, f in findings.items() if p not in (change.part, "file")}
    assert {one.verdict for one in others.values()} == {"good"}, "and nothing else is blamed"
    if change.part != "receipt":
        assert findings["file"].verdict == "noted"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_clip_has_the_same_bytes_each_time(suffix: str, clips: dict[str, Path]) -> None:
    again = io.BytesIO()
    made_clip().save(again, kind=suffix)
    assert again.getvalue() == clips[suffix].read_bytes()


def remux(source: Path, target: Path, last: float = 1e9) -> None:
    """Copy packets into another container, as `ffmpeg -c copy` does, up to a time in seconds."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        written.metadata.update(read.metadata)
        streams = {s: written.add_stream_from_template(s) for s in read.streams}
        for packet in read.demux(*streams):
            if packet.dts is not None and packet.dts * packet.time_base < last:
                packet.stream = streams[packet.stream]
                written.mux(packet)


@pytest.mark.parametrize(
    ("suffix", "other"), [(".mp4", ".mkv"), (".webm", ".mkv"), (".mp4", ".mov")]
)
def test_copied_into_another_container(
    suffix: str, other: str, clips: dict[str, Path], tmp_path: Path
) -> None:
    remux(clips[suffix], tmp_path / f"b{other}")
    findings = found(tmp_path / f"b{other}")
    assert findings["receipt"].verdict == "good"
    assert findings["pictures"].text == "as they were encoded"
    assert findings["sound"].text == "as it was"
    assert findings["file"].verdict == "noted"
    assert "copied into another container" in findings["file"].text


@pytest.mark.parametrize("suffix", WITH_SOUND)
def test_cut(suffix: str, clips: dict[str, Path], tmp_path: Path) -> None:
    remux(clips[suffix], tmp_path / f"b{suffix}", last=0.5)
    findings = found(tmp_path / f"b{suffix}")
    assert re.fullmatch(r"cut: 1\d of 24 packets, none changed", findings["pictures"].text)
    assert findings["sound"].text.startswith("cut: ")
    assert "bad" not in {one.verdict for one in findings.values()}


def encode_anew(source: Path, target: Path, paint: slice = slice(0), quiet: float = 1.0) -> None:
    """Decode and encode again, smaller and worse; frames of `paint` show something else."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        written.metadata.update(read.metadata)
        video = written.add_stream("mpeg4", rate=24, width=80, height=48, bit_rate=400_000)
        sound = written.add_stream("mp3", rate=16_000, layout="mono")
        painted = set(range(24)[paint])
        for number, frame in enumerate(read.decode(video=0)):
            pixels = np.array(Image.fromarray(frame.to_ndarray(format="rgb24")).resize((80, 48)))
            if number in painted:
                pixels = pixels[::-1, ::-1].copy()
            written.mux(video.encode(av.VideoFrame.from_ndarray(pixels)))
        written.mux(video.encode(None))
        read.seek(0)
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=16_000)
        for wave in read.decode(audio=0):
            for part in resampler.resample(wave):
                samples = part.to_ndarray() * quiet
                changed = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                changed.rate, changed.pts = part.rate, part.pts
                written.mux(sound.encode(changed))
        written.mux(sound.encode(None))


def test_encoded_anew(clips: dict[str, Path], tmp_path: Path) -> None:
    encode_anew(clips[".mp4"], tmp_path / "b.mp4")
    findings = found(tmp_path / "b.mp4")
    assert findings["pictures"].verdict == findings["sound"].verdict == "noted"
    assert findings["pictures"].text.startswith("encoded or packed anew, and look the same")
    assert findings["sound"].text.startswith("encoded or packed anew, and as loud")


def test_encoded_anew_and_changed(clips: dict[str, Path], tmp_path: Path) -> None:
    encode_anew(clips[".mp4"], tmp_path / "b.mp4", slice(8, 12), quiet=0.2)
    findings = found(tmp_path / "b.mp4")
    assert findings["pictures"].verdict == findings["sound"].verdict == "bad"
    assert findings["pictures"].text.startswith("others than the receipt's")
    assert findings["sound"].text.startswith("another than the receipt's")


def test_packed_anew_with_the_receipt_of_a_report(tmp_path: Path) -> None:
    receipt = made_clip().save(tmp_path / "a.mp4")
    (tmp_path / "a.json").write_text(f'{{"receipt": {receipt}}}')
    remux(tmp_path / "a.mp4", tmp_path / "b.ts")
    assert found(tmp_path / "b.ts")["receipt"].text == "there is none"
    findings = found(tmp_path / "b.ts", AtHand(report=tmp_path / "a.json"))
    assert findings["pictures"].text.startswith("encoded or packed anew, and look the same")


def test_no_receipt(tmp_path: Path) -> None:
    clip = made_clip()
    assert clip.save(tmp_path / "a.mp4", receipt=False) is None
    content = (tmp_path / "a.mp4").read_bytes()
    assert b"receipt" not in content
    assert b"trainedAlgorithmicMedia" in content
    findings = found(tmp_path / "a.mp4")
    assert findings["receipt"].text == "there is none"
    assert summary(findings.values()) == "it has no receipt: nothing to compare it with"
    write_video(tmp_path / "b.mp4", clip.frames, 24, clip.sound)
    assert b"trainedAlgorithmicMedia" not in (tmp_path / "b.mp4").read_bytes()


def test_a_receipt_from_a_report(clips: dict[str, Path], tmp_path: Path) -> None:
    clip = made_clip()
    receipt = clip.save(tmp_path / "a.mp4")
    (tmp_path / "a.json").write_text(f'{{"receipt": {receipt}}}')
    clip.save(tmp_path / "b.mp4", receipt=False)
    findings = found(tmp_path / "b.mp4", AtHand(report=tmp_path / "a.json"))
    assert findings["pictures"].verdict == findings["receipt"].verdict == "good"


def test_pictures_in_a_folder_are_marked(tmp_path: Path) -> None:
    made_clip(2).save(tmp_path / "frames/")
    with Image.open(tmp_path / "frames" / "00001.png") as picture:
        assert "trainedAlgorithmicMedia" in picture.info["XML:com.adobe.xmp"]


def test_a_gif_is_marked_and_has_no_receipt(tmp_path: Path) -> None:
    assert made_clip().save(tmp_path / "a.gif") is None
    content = (tmp_path / "a.gif").read_bytes()
    assert b"trainedAlgorithmicMedia" in content
    assert content.endswith(b"\x00\x3b")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 24
    findings = found(tmp_path / "a.gif")
    assert findings.keys() == {"receipt"}


@pytest.mark.parametrize("num_frames", [1, 24])
def test_a_webp_is_still_a_picture(num_frames: int, tmp_path: Path) -> None:
    made_clip(num_frames).save(tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as image:
        assert image.n_frames == num_frames
        assert b"keyvid:receipt" in image.info["xmp"]
    assert {one.verdict for one in found(tmp_path / "a.webp").values()} == {"good"}
