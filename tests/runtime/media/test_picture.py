"""Pictures of all kinds in."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keyvid.errors import MediaError, SettingsError
from keyvid.runtime.media.picture import load_image

CASES = Path(__file__).parents[2] / "cases"


def quadrants(height: int = 80, width: int = 120) -> np.ndarray:
    """(H, W, 3) uint8: red, green, blue and white from the upper left, row by row."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (255, 0, 0)
    image[: height // 2, width // 2 :] = (0, 255, 0)
    image[height // 2 :, : width // 2] = (0, 0, 255)
    image[height // 2 :, width // 2 :] = (255, 255, 255)
    return image


def corners(image: np.ndarray) -> list[str]:
    """Colour names near the four corners, row by row."""
    names = {(255, 0, 0): "r", (0, 255, 0): "g", (0, 0, 255): "b", (255, 255, 255): "w"}
    height, width = image.shape[:2]
    rows, columns = (height // 6, height - height // 6), (width // 6, width - width // 6)
    found = []
    for y in rows:
        for x in columns:
            distance = {n: np.abs(image[y, x].astype(int) - c).max() for c, n in names.items()}
            name = min(distance, key=lambda n: distance[n])
            assert distance[name] < 40, "JPEG and palettes move colours by less than this"
            found.append(name)
    return found


@pytest.mark.parametrize("kind", ["path", "pillow", "array"])
def test_image_sources(tmp_path: Path, kind: str) -> None:
    array = quadrants()
    Image.fromarray(array).save(tmp_path / "a.png")
    source = {"path": tmp_path / "a.png", "pillow": Image.fromarray(array), "array": array}[kind]
    image = load_image(source, 40, 60)
    assert image.shape == (40, 60, 3)
    assert image.dtype == np.uint8
    assert corners(image) == ["r", "g", "b", "w"]


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", ".jpg"),
        ("CMYK", ".jpg"),
        ("P", ".png"),
        ("P", ".gif"),
        ("RGB", ".webp"),
        ("RGB", ".bmp"),
        ("RGB", ".tiff"),
        ("RGBA", ".png"),
    ],
)
def test_image_formats_and_modes(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(quadrants()).convert(mode).save(path)
    assert corners(load_image(path, 40, 60)) == ["r", "g", "b", "w"]


@pytest.mark.parametrize(
    ("dtype", "scale", "suffix"),
    [("uint8", 1, ".png"), ("uint16", 257, ".png"), ("float32", 1 / 255, ".tiff")],
)
def test_grey_images_of_any_depth(tmp_path: Path, dtype: str, scale: float, suffix: str) -> None:
    ramp = np.tile(np.arange(0, 240, 2), (80, 1))
    Image.fromarray((ramp * scale).astype(dtype)).save(tmp_path / f"a{suffix}")
    image = load_image(tmp_path / f"a{suffix}", 80, 120)
    assert np.abs(image - ramp[..., None].astype(int)).max() <= 1  # rounding


# EXIF orientation n says how the camera was held; each turns the stored picture upright.
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, "rgbw"), (2, "grwb"), (3, "wbgr"), (4, "bwrg"), (5, "rbgw"), (6, "brwg"), (8, "gwrb")],
)
def test_image_is_turned_as_exif_says(tmp_path: Path, orientation: int, upright: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(quadrants()).save(tmp_path / "a.jpg", quality=95, exif=exif)
    assert "".join(corners(load_image(tmp_path / "a.jpg", 60, 60))) == upright


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    image = np.zeros((40, 60, 4), np.uint8)  # black, see-through
    image[:, 30:] = (200, 0, 0, 255)
    Image.fromarray(image).save(tmp_path / "a.png")
    got = load_image(tmp_path / "a.png", 40, 60)
    assert (got[:, :25] == 255).all()
    assert np.abs(got[:, 35:] - np.array((200, 0, 0))).max() <= 2  # ringing of the filter


@pytest.mark.parametrize(("height", "width"), [(100, 400), (400, 100)])
def test_crop_keeps_centre_and_proportions(height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    y, x = np.mgrid[:height, :width]
    image[(y - height / 2 + 0.5) ** 2 + (x - width / 2 + 0.5) ** 2 < 30**2] = 255
    disc = load_image(image, 64, 96)[..., 0] > 127
    rows, columns = np.flatnonzero(disc.any(1)), np.flatnonzero(disc.any(0))
    assert abs(len(rows) - len(columns)) <= 1, "a circle stays one"
    assert abs(rows.mean() - 31.5) <= 0.5
    assert abs(columns.mean() - 47.5) <= 0.5


def test_shrinking_is_band_limited() -> None:
    """A pattern finer than the result is its mean, not some alias of it."""
    checks = np.indices((640, 960)).sum(0) % 2 * 255
    image = load_image(np.repeat(checks[..., None], 3, 2).astype(np.uint8), 64, 96)
    assert np.abs(image.astype(int) - 127).max() <= 2


def test_large_jpeg_loses_nothing(tmp_path: Path) -> None:
    """It is decoded at a fraction of its size; the result must not be softer for it."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
    large = Image.fromarray(noise).resize((1920, 1280), Image.Resampling.NEAREST)
    large.save(tmp_path / "a.jpg", quality=95, subsampling=0)
    got = load_image(tmp_path / "a.jpg", 256, 384).astype(float)
    want = load_image(large, 256, 384).astype(float)
    assert np.abs(got - want).mean() < 3  # decoded at an eighth: 22


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1000), (20_000, 1), (1, 20_000)])
def test_extreme_sizes_work(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (10, 120, 230)).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", 64, 96)
    assert image.shape == (64, 96, 3)
    assert (image == (10, 120, 230)).all()


def test_decompression_bomb_is_refused(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")  # 50 kB, 1.2 GB as RGB
    with pytest.raises(MediaError, match=r"bomb\.png: has more than 178,956,970 pixels; shrink"):
        load_image(tmp_path / "bomb.png", 64, 96)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".tiff", ".bmp"])
def test_damaged_images_raise_only_media_errors(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = Image.fromarray(quadrants())
    whole.save(buffer, Image.registered_extensions()[suffix], exif=exif)
    rng = np.random.default_rng(0)
    refused = 0
    for case in range(60):
        data = bytearray(buffer.getvalue())
        if case % 2:
            data = data[: rng.integers(1, len(data))]
        else:
            for position in rng.integers(0, min(len(data), 300), 8):
                data[position] = rng.integers(256)
        (tmp_path / f"a{suffix}").write_bytes(data)
        try:
            load_image(tmp_path / f"a{suffix}", 64, 96)
        except MediaError as error:
            assert "\n" not in str(error)  # noqa: PT017 (some damaged files can be read)
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_wrong_image_arrays(array: np.ndarray) -> None:
    with pytest.raises(MediaError, match=r"expected uint8 \(H, W, 3\)"):
        load_image(array, 64, 96)


def test_open_files(tmp_path: Path) -> None:
    Image.fromarray(quadrants()).save(tmp_path / "a.png")
    want = load_image(tmp_path / "a.png", 40, 60)
    with open(tmp_path / "a.png", "rb") as file:
        np.testing.assert_array_equal(load_image(file, 40, 60), want)
    buffer = io.BytesIO((tmp_path / "a.png").read_bytes())
    np.testing.assert_array_equal(load_image(buffer, 40, 60), want)


class NoArray:
    """Says that it is an array, and fails when it has to be one."""

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise RuntimeError("cannot leave\nits device")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (NoArray(), "image is no array: cannot leave its device"),
        (None, "the picture is a NoneType; give the name of a file"),
        (3, "the picture is a int"),
        (io.BytesIO(), r"is empty \(0 bytes\)"),
        (io.StringIO("text"), "give a file that is open for reading bytes"),
        ("a\0b", r"a\\x00b: no file can have this name"),
        ("\ud800", r"\\ud800: no file can have this name"),
        ("x" * 300, "File name too long; check the name"),
        ("", "No such file or directory"),
        (".", "is not a file"),
        ("/", "is not a file"),
        ("two\nlines", r"two\\nlines: No such file"),
    ],
)
def test_what_is_no_picture(source: Any, message: str) -> None:
    with pytest.raises(MediaError, match=message) as caught:
        load_image(source, 64, 96)
    assert "\n" not in str(caught.value)


def test_an_image_whose_file_is_closed(tmp_path: Path) -> None:
    Image.fromarray(quadrants()).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        pass
    with pytest.raises(MediaError, match="the image: not a picture that can be read"):
        load_image(image, 64, 96)


@pytest.mark.parametrize(
    ("position", "left"),
    [("left", 0), ("centre", 60), ("right", 120), ("0.25,0.5", 30), ((0.25, 0.0), 30)],
)
def test_position_of_the_crop(position: Any, left: int) -> None:
    ramp = np.repeat(np.arange(180, dtype=np.uint8)[None, :, None], 3, 2).repeat(60, 0)
    got = load_image(ramp, 60, 60, position=position)
    assert np.abs(got[30, :, 0].astype(int) - np.arange(left, left + 60)).max() <= 1


@pytest.mark.parametrize(("position", "top"), [("top", 0), ("centre", 16), ("bottom", 32)])
def test_pad_keeps_all(position: str, top: int) -> None:
    image = quadrants(40, 120)
    image[0], image[-1], image[:, 0], image[:, -1] = ((9, 99, 200),) * 4
    got = load_image(image, 64, 96, fit="pad", position=position)
    assert corners(got[top : top + 32]) == ["r", "g", "b", "w"]
    bars = np.delete(got, np.s_[top : top + 32], axis=0)
    assert (bars == bars[0, 0]).all(), "one colour"


def test_pad_of_the_edge_colour() -> None:
    image = np.full((100, 20, 3), (10, 120, 230), np.uint8)
    image[30:70, 5:15] = 255
    got = load_image(image, 64, 96, fit="pad")
    assert (got[:, :30] == (10, 120, 230)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "stretch"}, "fit 'stretch': want one of crop, pad"),
        ({"position": "above"}, "crop position is above; expected centre"),
        ({"position": "0.5,1.5"}, "crop position is 0.5,1.5; expected"),
        ({"position": "nan,0"}, "crop position is nan,0; expected"),
        ({"position": (0.5,)}, "crop position is"),
    ],
)
def test_wrong_framing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_image(quadrants(), 64, 96, **options)


@pytest.mark.parametrize(
    ("size", "position", "said"),
    [
        ((64, 300), "centre", "at its left and right; fit 'pad' keeps all of it, a crop position"),
        ((64, 300), "left", "at its right; fit 'pad' keeps all of it"),
        ((64, 300), "0.2,0", "at its left and right; fit 'pad' keeps all of it"),
        ((300, 96), "top", "at its bottom; fit 'pad' keeps all of it"),
        ((300, 96), "bottom", "at its top; fit 'pad' keeps all of it"),
    ],
)
def test_the_remark_on_cropping_is_true(
    size: tuple[int, int], position: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    load_image(quadrants(*size), 64, 96, position=position)
    assert said in caplog.text
    assert ("a crop position chooses" in caplog.text) == (position == "centre")


def test_the_bytes_of_a_picture() -> None:
    content = io.BytesIO()
    Image.fromarray(quadrants(64, 96)).save(content, "PNG")
    assert np.array_equal(load_image(content.getvalue(), 64, 96), quadrants(64, 96))


@pytest.mark.parametrize(("width", "said"), [(119, False), (122, True)])
def test_cropping_more_than_a_fifth_is_said(
    width: int, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    load_image(quadrants(64, width), 64, 96)
    cut = "image array: 21 % of the picture are cut off, at its left and right; fit 'pad' keeps"
    assert bool(caplog.messages) == said
    assert all(message.startswith(cut) for message in caplog.messages)
    caplog.clear()
    load_image(quadrants(64, width), 64, 96, fit="pad")
    assert not caplog.messages


def test_picture_of_a_large_phone_camera(tmp_path: Path) -> None:
    Image.new("L", (12_000, 9_000), 90).save(tmp_path / "a.jpg")
    assert (load_image(tmp_path / "a.jpg", 64, 96) == 90).all()


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (np.int32, 255),
        (np.int32, 65_535),
        (np.int32, 2**31 - 1),
        (np.float32, 1),
        (np.float32, 255),
        (np.float32, 65_535),
    ],
)
def test_deep_pictures_by_their_range(tmp_path: Path, values: type, white: int) -> None:
    ramp = np.tile(np.linspace(0, 1, 120), (80, 1))
    Image.fromarray((ramp * white).astype(values)).save(tmp_path / "a.tif")
    image = load_image(tmp_path / "a.tif", 80, 120)
    assert np.abs(image - 255 * ramp[..., None]).max() <= 1  # rounding


def test_transparency_with_a_colour_profile(tmp_path: Path) -> None:
    """A profile for colours must not see the fourth channel."""
    with Image.open(CASES / "red-p3.png") as image:
        profile, red = image.info["icc_profile"], image.getpixel((0, 0))
    image = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    image.paste((*red, 255), (30, 0, 60, 40))
    image.save(tmp_path / "a.png", icc_profile=profile)
    got = load_image(tmp_path / "a.png", 40, 60)
    assert (got[:, :25] == 255).all()
    assert np.abs(got[20, 50].astype(int) - (220, 40, 40)).max() <= 2


@pytest.mark.parametrize("mode", ["LAB", "CMYK", "YCbCr", "HSV", "LA", "PA", "I;16", "1", "RGBX"])
def test_modes_of_open_images(mode: str) -> None:
    image = Image.new(mode, (96, 64))
    assert load_image(image, 64, 96).shape == (64, 96, 3)


def test_damaged_colour_profiles_are_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(quadrants()).save(tmp_path / "a.png", icc_profile=b"no profile")
    assert corners(load_image(tmp_path / "a.png", 40, 60)) == ["r", "g", "b", "w"]
    assert "its colour profile is ignored" in caplog.text


def test_decoders_print_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff writes to file descriptor 2, whatever Python's `sys.stderr` is."""
    Image.fromarray(quadrants()).save(tmp_path / "a.tif", compression="tiff_adobe_deflate")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[20:60] = bytes(range(40))
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(MediaError):
        load_image(tmp_path / "a.tif", 40, 60)
    assert capfd.readouterr() == ("", "")
