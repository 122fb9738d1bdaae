"""Files that ask for hours, gigabytes, programs or addresses: a line, soon, and little memory."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from keyvid.errors import MediaError
from keyvid.runtime.media.picture import load_image, picture_size
from keyvid.runtime.media.sound import load_sound, sound_duration
from tests.runtime.media import hostile

pytestmark = pytest.mark.security

MOST_SECONDS = 8.5  # of computing, decoder and all
MOST_MEMORY = 1_100  # MiB, of both processes together

# Reads a file as the commands do. Prints what comes of it, and what it took.
READ = """
import json, resource, sys
from keyvid.runtime.media import isolation
from keyvid.runtime.media.picture import load_image
from keyvid.runtime.media.sound import load_sound, sound_duration
kind, name = sys.argv[1:]
try:
    if kind == "picture":
        came = load_image(name, 96, 160).shape
    elif kind == "sound":
        came = load_sound(name, 2.0).samples.shape
    else:
        came = sound_duration(name)
except Exception as error:
    came = f"{type(error).__name__}: {error}"
isolation.end_all()
theirs = resource.getrusage(resource.RUSAGE_CHILDREN)
# Not `ru_maxrss`, which begins with what the process had that started this one.
ours = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({
    "came": came,
    "seconds": theirs.ru_utime + theirs.ru_stime,
    "mebibytes": (int(ours) + theirs.ru_maxrss) / 1024,
}))
"""


def read(kind: str, path: Path) -> object:
    """What comes of a file, which took no more than is allowed."""
    done = subprocess.run(
        [sys.executable, "-c", READ, kind, path.name],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    assert said["seconds"] < MOST_SECONDS
    assert said["mebibytes"] < MOST_MEMORY
    return said["came"]


PICTURES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a.jpg": (
        lambda: hostile.progressive_jpeg(700),
        "MediaError: a.jpg: is a JPEG of more than 100 scans, expected about 10; save it again",
    ),
    "rgb.jpg": (
        hostile.jpeg_without_data,
        "MediaError: rgb.jpg: is a JPEG whose data end early (2 bytes, expected 480 at least)",
    ),
    "cmyk.jpg": (lambda: hostile.jpeg_without_data("CMYK"), "is a JPEG whose data end early"),
    "marks.jpg": (
        lambda: hostile.jpeg_with_comments(8_000_000),
        "is a JPEG of more than 10,000 parts, expected fewer than 300; save it again",
    ),
    "chunks.png": (
        lambda: hostile.png_of_chunks(1_200_000),
        "is a PNG of more than 100,000 chunks, expected fewer than 10,000; save it again",
    ),
    "texts.png": (hostile.png_with_texts, "MediaError: texts.png: not a picture that can be read"),
    "profile.png": (hostile.png_with_large_profile, "Decompressed data too large"),
    "rows.png": (
        lambda: hostile.png(3_000_000, 50_000, 0),
        "MediaError: rows.png: has more than 178,956,970 pixels; shrink it first",
    ),
    "a.gif": (hostile.gif_header, "MediaError: a.gif: has more than 178,956,970 pixels"),
    "a.webp": (hostile.webp_canvas, "MediaError: a.webp: "),
    "eps.png": (lambda: hostile.EPS, "is an EPS, which is not read; convert it to PNG"),
    "film.png": (lambda: b"#EXTM3U\n#EXTINF:2,\n/etc/hostname\n", "not a picture that can be"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name: str, tmp_path: Path) -> None:
    make, message = PICTURES[name]
    (tmp_path / name).write_bytes(make())
    assert message in str(read("picture", tmp_path / name))


def test_as_many_chunks_as_are_let_in(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(hostile.png_of_chunks(99_000))
    assert read("picture", tmp_path / "a.png") == [96, 160, 3]


def test_a_strip_of_a_tiff_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    """Only what the picture needs of it is unpacked."""
    (tmp_path / "a.tif").write_bytes(hostile.tiff(2000, 2000, hostile.zeros(3 << 30)))
    assert read("picture", tmp_path / "a.tif") == [96, 160, 3]


def test_the_largest_picture_that_is_let_in(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(hostile.png(9459, 9459, 6))
    assert read("picture", tmp_path / "a.png") == [96, 160, 3]


@pytest.mark.parametrize(("channels", "rate"), [(64, 1_000_000), (2, 1_000_000), (8, 96_000)])
def test_no_more_than_two_channels_at_48_khz_are_kept(
    channels: int, rate: int, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(hostile.wav(channels, rate, 4000))
    assert read("sound", tmp_path / "a.wav") == [96_000, 1 if channels == 64 else 2]


def test_films_beside_a_sound_are_not_looked_at(tmp_path: Path) -> None:
    hostile.film_of_pngs(tmp_path / "a.mov")
    assert read("sound", tmp_path / "a.mov") == [32_000, 1]
    assert read("duration", tmp_path / "a.mov") == 1.0
    assert "or of more than 89,478,485 pixels; give a picture" in str(
        read("picture", tmp_path / "a.mov")
    )


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
    "<Period><AdaptationSet><Representation id='1' bandwidth='1'><BaseURL>{}</BaseURL>"
    "</Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    "image2": "{}",
    "lavfi": "sine=frequency=440",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_playlists_lead_nowhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "other.wav").write_bytes(hostile.wav(1, 16_000, 32_000))
    (tmp_path / "a.wav").write_text(PLAYLISTS[name].format(tmp_path / "other.wav"))
    for attempt in (
        lambda path: load_sound(path, 2.0),
        lambda path: load_image(path, 96, 160),
        sound_duration,
        picture_size,
    ):
        with pytest.raises(MediaError, match=r"a\.wav: (not a|is an SVG or another XML file)"):
            attempt(tmp_path / "a.wav")
