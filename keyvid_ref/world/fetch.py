"""Recordings for the synthetic world from Debian's packages: `python -m keyvid_ref.world.fetch`.

Needs `apt-get` and `dpkg`. The recordings stay where they are written: the networks learn from
them, and neither they nor parts of them are packaged.
"""

import json
import logging
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import av
import click
import numpy as np
import soundfile

from keyvid_ref.world.recordings import FAMILIES, LEAD_S, STRUCK

_log = logging.getLogger(__name__)
_RATE = 16_000
_LONGEST_S = 1.5  # of a one-shot
_LONGEST_HELD_S = 12.0
_VOICES = 300
_SUFFIXES = (".flac", ".wav", ".ogg", ".oga", ".aif", ".aiff")


@dataclass(frozen=True)
class Source:
    """A package, its licences by its debian/copyright, and which files are of which family.

    families: (pattern of the path, family or None for none of it), the first that fits counts.
    """

    licence: str
    families: tuple[tuple[str, str | None], ...]


_METAL = (
    r"cowbell|agogo|bell|ride|rd\d*_|crash|cymbal|china|hat|hh|hi-?h|cup|metal|glass|triangle|"
    r"cb\d*_|mc_cb|cc_0|rc_0"
)
_THUMP = r"kick|bd|bass|pearlkick|thump|floor|foot|place_node|dug|choppy|dirt|tnt_expl"

SOURCES = {
    "hydrogen-drumkits": Source(
        "GPL-2; Audiophob: CC0; rumpf: CC-BY-3.0; circAfrique: CC-BY-SA-3.0",
        (
            (r"demo|empty|readme|whistle", None),
            (r"shake|maraca|cabasa|tambour", "rustle"),
            (_METAL, "metal"),
            (_THUMP, "thump"),
            (r"", "drum"),
        ),
    ),
    "minetest-data": Source(
        "CC-BY-SA-3.0, CC-BY-3.0, CC0",
        (
            (r"env_sounds|fire_(fire|large|small)|furnace|cart_moving|cool_lava|burning", "noise"),
            (r"gravel|sand|snow|grass|snappy|crumbly|ice_foot|water_foot", "rustle"),
            (r"metal|glass|steel", "metal"),
            (r"foot|place_node|dug|choppy|dig|door|chest", "thump"),
            (r"", None),
        ),
    ),
    "sound-theme-freedesktop": Source(
        "CC-BY-SA-3.0, CC-BY-3.0, GPL-2+",
        (
            (r"audio-channel|test-signal", None),
            (r"bell|message|shutter|power|device|volume|trash", "metal"),
            (r"", None),
        ),
    ),
    "tuxpaint-stamps-default": Source(
        "GPL-2",
        (
            (r"_desc\.ogg$", "voice"),
            (r"_desc|_[a-z]{2}(_[a-z]+)?\.ogg$|symbols", None),
            (r"vacuum|washing|kettle|toilet|saw\.|bee\.|mosquito|hornet|apollo_l|firetruck|"
             r"lightning|bathy|grasshopper|fireworks", "noise"),
            (r"cello|violin|bassoon|whale|wind/", "held"),
            (r"hammer|mallet|glass|bottle|cymbal", "metal"),
            (r"tomtom|drumkit", "drum"),
            (r"animals|scissors|camera", "call"),
            (r"", None),
        ),
    ),
}  # fmt: skip


def family_of(source: Source, path: str) -> str | None:
    """The family that a file of a package belongs to, if to any."""
    return next(name for pattern, name in source.families if re.search(pattern, path.lower()))


def read_mono(path: Path) -> np.ndarray:
    """(n,) float32 at 16 kHz, 1 at its loudest."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=_RATE)
    parts: list[np.ndarray] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    sound = np.concatenate(parts)
    return (sound / max(float(np.abs(sound).max()), 1e-9)).astype(np.float32)


def find_onset(sound: np.ndarray) -> float | None:
    """Seconds of the onset of a one-shot at 16 kHz; None for a sound that is none.

    The onset: the envelope (root mean square over 5 ms in steps of 1 ms) first passes a tenth of
    its maximum. A one-shot falls silent once: its envelope, smoothed over 50 ms, does not fall to a
    third of its maximum and rise above two thirds of it again, and it rises within 80 ms.
    """
    hop, size = _RATE // 1000, 5 * _RATE // 1000
    padded = np.pad(sound, (size, size))
    power = np.convolve(padded**2, np.full(size, 1 / size), "valid")[::hop]
    envelope = np.sqrt(np.maximum(power, 0))
    onset = int(np.argmax(envelope > 0.1 * envelope.max()))
    smooth = np.convolve(envelope, np.full(50, 1 / 50), "same")
    peak = int(np.argmax(smooth))
    low = peak + int(np.argmax(smooth[peak:] < smooth[peak] / 3))
    rises_again = low > peak and bool((smooth[low:] > 0.6 * smooth[peak]).any())
    if rises_again or int(np.argmax(envelope)) - onset > 80:
        return None
    return (onset * hop - size / 2) / _RATE


def first_call(sound: np.ndarray) -> np.ndarray:
    """What an animal says first, up to where its envelope has fallen to a sixth."""
    size = _RATE // 20
    envelope = np.sqrt(np.convolve(sound**2, np.full(size, 1 / size), "same"))
    begin = int(np.argmax(envelope > 0.3 * envelope.max()))
    peak = begin + int(np.argmax(envelope[begin : begin + _RATE // 4]))
    quiet = envelope[peak:] < envelope[peak] / 6
    return sound[: peak + int(np.argmax(quiet))] if quiet.any() else sound


def prepare(sound: np.ndarray, family: str) -> np.ndarray | None:
    """A sound as its family wants it: one-shots from their lead on, all others at most so long."""
    if family not in STRUCK:
        return sound[: round(_LONGEST_HELD_S * _RATE)] if len(sound) > _RATE // 2 else None
    if family == "call":
        sound = first_call(sound)
    onset = find_onset(sound)
    if onset is None:
        return None
    start = round((onset - LEAD_S) * _RATE)
    sound = np.pad(sound, (max(-start, 0), 0))[max(start, 0) :][: round(_LONGEST_S * _RATE)]
    fade = np.clip(np.arange(len(sound))[::-1] / (0.1 * _RATE), 0, 1)
    return (sound * fade).astype(np.float32)


def unpack(package: str, folder: Path) -> Path:
    """Fetch a package into `folder`, without installing it; gives the folder of its files."""
    files = folder / package
    if not files.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
        archive = next(folder.glob(f"{package}_*.deb"))
        partial = folder / f"{package}.partial"
        subprocess.run(["dpkg", "-x", archive.name, partial.name], cwd=folder, check=True)
        partial.rename(files)
        archive.unlink()
    return files


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--packages", type=click.Path(path_type=Path), default=Path("runs/packages"),
              show_default=True, help="Where packages are unpacked.")  # fmt: skip
def main(folder: Path, packages: Path) -> None:
    """Write recordings by family into FOLDER, and sources.json with package and licence of each."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    listed: dict[str, dict[str, str]] = {}
    for package, source in SOURCES.items():
        root = unpack(package, packages)
        paths = [p for p in sorted(root.rglob("*")) if p.suffix.lower() in _SUFFIXES]
        chosen = [(path, family_of(source, str(path.relative_to(root)))) for path in paths]
        voices = [path for path, family in chosen if family == "voice"]
        skipped = set(voices) - set(voices[:: max(1, len(voices) // _VOICES)])
        for path, family in chosen:
            if family is None or path in skipped:
                continue
            sound = prepare(read_mono(path), family)
            if sound is None:
                continue
            name = f"{package}-{len(listed):04d}"
            (folder / family).mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / family / f"{name}.flac", sound, _RATE)
            listed[f"{family}/{name}"] = {
                "package": package,
                "file": str(path.relative_to(root)),
                "licence": source.licence,
            }
    (folder / "sources.json").write_text(json.dumps(listed, indent=1) + "\n")
    for family in FAMILIES:
        _log.info("%s: %d", family, len(list((folder / family).glob("*.flac"))))


if __name__ == "__main__":
    main()
