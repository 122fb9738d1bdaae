"""Small files that ask for much: hours of computing, gigabytes, or files and programs elsewhere."""

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image


def zeros(length: int) -> bytes:
    """At least so many zero bytes, compressed by zlib: one megabyte, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    times = -(-length // (1 << 20))
    sums = struct.pack(">HH", (times << 20) % 65_521, 1)  # Adler-32
    return b"\x78\xda" + block * times + packer.flush() + sums


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(width: int, height: int, colour: int = 2, before: bytes = b"", depth: int = 8) -> bytes:
    channels = {0: 1, 2: 3, 6: 4}[colour]
    row = 1 + (width * channels * depth + 7) // 8
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [_png_chunk(b"IHDR", header), before, _png_chunk(b"IDAT", zeros(row * height))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _png_chunk(b"IEND", b"")


def progressive_jpeg(num_scans: int, side: int = 4000) -> bytes:
    """A JPEG whose last scan is there again and again."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (90, 20, 200)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * num_scans + data[-2:]


def jpeg_without_data(mode: str = "RGB") -> bytes:
    """A JPEG that ends where its pixels begin, as if it were whole."""
    buffer = io.BytesIO()
    Image.new(mode, (640, 384)).save(buffer, "JPEG")
    data = buffer.getvalue()
    scan = data.index(b"\xff\xda") + 2
    return data[: scan + int.from_bytes(data[scan : scan + 2], "big")] + b"\xff\xd9"


def jpeg_with_comments(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    return buffer.getvalue()[:2] + b"\xff\xfe\0\2" * number + buffer.getvalue()[2:]


def png_of_chunks(number: int) -> bytes:
    return png(8, 8, before=_png_chunk(b"teXt", b"") * number)


def png_with_texts() -> bytes:
    text = _png_chunk(b"zTXt", b"a\0\0" + zeros(1 << 20))
    return png(8, 8, before=text * 4000)


def png_with_large_profile() -> bytes:
    return png(8, 8, before=_png_chunk(b"iCCP", b"a\0\0" + zeros(2 << 30)))


def gif_header(side: int = 65_535) -> bytes:
    size = struct.pack("<HH", side, side)
    frame = b"," + struct.pack("<HH", 0, 0) + size + b"\0" + b"\x02\x02\x4c\x01\0"
    return b"GIF89a" + size + b"\x80\0\0" + bytes(6) + frame + b";"


def webp_canvas(side: int = 16_384) -> bytes:
    """An animation of one frame of a pixel on the largest canvas there is."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "WEBP", lossless=True)
    pixel = buffer.getvalue()[12:]
    canvas = (side - 1).to_bytes(3, "little")
    frame = bytes(6) + bytes(6) + (100).to_bytes(3, "little") + b"\0" + pixel
    chunks = [(b"VP8X", b"\x02\0\0\0" + canvas * 2), (b"ANIM", bytes(6)), (b"ANMF", frame)]
    body = b"".join(kind + struct.pack("<I", len(part)) + part for kind, part in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def tiff(width: int, height: int, compressed: bytes) -> bytes:
    """RGB in one strip, by Deflate."""
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 8),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, len(compressed)),
    ]
    at = 8 + len(compressed) + len(compressed) % 2
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    body = compressed + bytes(len(compressed) % 2) + struct.pack("<H", len(tags)) + entries
    return b"II*\0" + struct.pack("<I", at) + body + bytes(4)


def wav(channels: int, rate: int, num_samples: int = 8) -> bytes:
    data = bytes(num_samples * channels * 2)
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) + len(data)) + b"WAVE" + chunks + data


def film_of_pngs(path: Path, num_streams: int = 12, side: int = 16_000) -> None:
    """A sound beside films of PNG, each frame of which is 768 MB."""
    picture = png(side, side)
    with av.open(path, "w", format="mov") as container:
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        films = [container.add_stream("png", rate=1) for _ in range(num_streams)]
        for film in films:
            film.width = film.height = side
            film.pix_fmt = "rgb24"
        wave = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), "s16", "mono")
        wave.sample_rate, wave.pts = 16_000, 0
        container.start_encoding()
        for film in films:
            packet = av.Packet(picture)
            packet.stream, packet.pts, packet.dts = film, 0, 0
            packet.time_base = Fraction(1, 1000)
            container.mux(packet)
        container.mux(sound.encode(wave))
        container.mux(sound.encode(None))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n{ } loop\nshowpage\n%%EOF\n"
