"""The kinds of file that a clip can become: one row each, and no other list of them."""

from dataclasses import dataclass

_AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


@dataclass(frozen=True)
class Container:
    """A kind of file and its codecs, by FFmpeg's names.

    Attributes:
        title: for people.
        muxer: writes the file.
        codec, options: of the frames.
        muxer_options: equal frames give equal bytes with them.
        sound_codec: None for a kind that holds no sound.
        sound_rates: samples per second that the codec knows; the last one stands in for others.
        sound_packet: samples in a packet of it.
        pixels: format of the frames.
    """

    title: str
    muxer: str
    codec: str
    options: dict[str, str]
    muxer_options: dict[str, str]
    sound_codec: str | None = None
    sound_rates: tuple[int, ...] = (48_000,)
    sound_packet: int = 1024
    pixels: str = "yuv420p"


# By the ending of the file's name.
CONTAINERS = {
    ".mp4": Container(
        "MP4",
        "mp4",
        "libx264",
        # crf as in the released code; mbtree reads beyond pictures narrower than about 160 pixels
        {"crf": "10", "preset": "medium", "mbtree": "0"},
        {"movflags": "faststart", "fflags": "bitexact"},
        "aac",
        _AAC_RATES,
    ),
    ".webm": Container(
        "WebM",
        "webm",
        "libvpx-vp9",
        {"crf": "18", "b": "0", "deadline": "good", "cpu-used": "3"},
        {"fflags": "bitexact"},  # else it holds random numbers
        "libopus",
        sound_packet=960,
    ),
    ".webp": Container("WebP", "webp", "libwebp_anim", {"quality": "90"}, {"loop": "0"}),
    ".gif": Container("GIF", "gif", "gif", {}, {"loop": "0"}, pixels="pal8"),
}
