"""The encoded packets of a clip's file, by their digests."""

import hashlib
from typing import IO

from keyvid.runtime.media.carrier import riff_chunks
from keyvid.runtime.media.ffmpeg import FILM_CONTAINERS, open_container

PICTURES, SOUNDS = "video", "audio"  # FFmpeg's names of the kinds of streams


def is_webp(file: IO[bytes]) -> bool:
    """Whether a file is a WebP, of whose animations FFmpeg reads nothing."""
    file.seek(0)
    start = file.read(12)
    return start[:4] == b"RIFF" and start[8:] == b"WEBP"


def packet_digests(file: IO[bytes]) -> dict[str, list[bytes]]:
    """sha256 of each packet of the first stream of pictures and that of sounds; nothing is decoded.

    Raises:
        ValueError: it is of no kind that is read here.
        av.error.FFmpegError: what FFmpeg says of it.
    """
    if is_webp(file):
        frames = [body for kind, body in riff_chunks(file) if kind in (b"ANMF", b"VP8 ", b"VP8L")]
        return {PICTURES: [hashlib.sha256(frame).digest() for frame in frames]}
    file.seek(0)
    digests: dict[str, list[bytes]] = {}
    with open_container(file, (), FILM_CONTAINERS) as container:
        streams = [part[0] for part in (container.streams.video, container.streams.audio) if part]
        digests = {stream.type: [] for stream in streams}
        for packet in container.demux(*streams):
            if packet.size:
                digests[packet.stream.type].append(hashlib.sha256(packet).digest())
    return digests
