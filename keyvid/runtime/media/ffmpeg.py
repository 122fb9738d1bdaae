"""Files that FFmpeg opens: of a list of containers and codecs, and nothing outside the file.

FFmpeg goes by content: under any name a playlist could open files and addresses, and a picture in
a film be decoded before anybody has asked for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import av

# Names of demuxers. "mov" stands for MP4 and M4A, "matroska" for WebM, "wav" for RF64.
SOUND_CONTAINERS = (
    *("wav", "w64", "aiff", "au", "caf", "flac", "ogg", "mp3", "aac", "ac3", "eac3", "dts"),
    *("amr", "amrnb", "amrwb", "ape", "wv", "tta", "mpc", "mpc8", "voc", "dsf"),
    *("mov", "matroska", "avi", "asf", "flv", "mpegts", "mpeg", "mxf", "dv"),
)
FILM_CONTAINERS = (
    *("mov", "matroska", "avi", "asf", "flv", "mpegts", "mpeg", "mxf", "dv", "ogg", "gif"),
)
SOUND_CODECS = (
    *("aac", "aac_latm", "ac3", "alac", "als", "amrnb", "amrwb", "ape", "cook", "dca", "dvaudio"),
    *("dsd_lsbf", "dsd_lsbf_planar", "dsd_msbf", "dsd_msbf_planar", "eac3", "flac", "g722"),
    *("gsm", "gsm_ms", "mlp", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "mpc7"),
    *("mpc8", "nellymoser", "opus", "libopus", "s302m", "speex", "truehd", "tta", "vorbis"),
    *("wavpack", "wmalossless", "wmapro", "wmav1", "wmav2", "wmavoice"),
    *("adpcm_g722", "adpcm_g726", "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "adpcm_swf"),
    *("adpcm_yamaha", "g726", "g726le", "pcm_alaw", "pcm_bluray", "pcm_dvd", "pcm_mulaw"),
    *("pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le", "pcm_s16be", "pcm_s16le"),
    *("pcm_s16be_planar", "pcm_s16le_planar", "pcm_s24be", "pcm_s24le", "pcm_s24le_planar"),
    *("pcm_s32be", "pcm_s32le", "pcm_s32le_planar", "pcm_s64be", "pcm_s64le", "pcm_s8"),
    *("pcm_s8_planar", "pcm_u16be", "pcm_u16le", "pcm_u24be", "pcm_u24le", "pcm_u32be"),
    *("pcm_u32le", "pcm_u8"),
)
FILM_CODECS = (
    *("av1", "libdav1d", "dvvideo", "dnxhd", "ffv1", "flv", "gif", "h263", "h264", "hevc"),
    *("huffyuv", "ffvhuff", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4"),
    *("png", "prores", "qtrle", "rawvideo", "theora", "vc1", "vp3", "vp6", "vp6f", "vp8", "vp9"),
    *("libvpx", "libvpx-vp9", "vvc", "webp", "wmv1", "wmv2", "wmv3"),
)
MOST_PIXELS = 89_478_485  # of a picture: 256 MiB as RGB
_MOST_STREAMS = 100


@contextmanager
def open_container(
    file: IO[bytes], codecs: tuple[str, ...], containers: tuple[str, ...]
) -> Iterator[Any]:
    """An open container; while FFmpeg looks at its streams it decodes those of `codecs` only.

    Raises:
        ValueError: it is of no such kind.
        av.error.FFmpegError: what FFmpeg says of it.
    """
    options = {
        "protocol_whitelist": "none",
        "format_whitelist": ",".join(containers),
        "codec_whitelist": ",".join(codecs),
        "max_streams": str(_MOST_STREAMS),
        "max_pixels": str(MOST_PIXELS),  # of what is decoded to look at it
    }
    try:
        container = av.open(file, metadata_errors="replace", options=options)
    except av.error.ArgumentError as error:
        raise ValueError("of a kind that is not read here") from error
    with container:
        yield container


def is_of(stream: Any, codecs: tuple[str, ...]) -> bool:
    """Whether a stream can be decoded, and by one of these."""
    return stream.codec_context is not None and stream.codec_context.name in codecs
