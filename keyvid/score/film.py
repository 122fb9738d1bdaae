"""A folder of videos, each with the events that are heard in it."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np

from keyvid.counting import counted
from keyvid.errors import MediaError
from keyvid.runtime.media.ffmpeg import FILM_CODECS, FILM_CONTAINERS, open_container
from keyvid.runtime.media.sources import decoder_message, shown

EVENTS = ("contact", "change")
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")

_ROWS = 96  # videos are shrunk to this height: both measures average over more than that
_FACTS = '{"events_s": [seconds, ...]}'

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Film:
    """What is scored.

    kind: a name to tabulate by. event: one of `EVENTS`. frames: (T, H, W, 3) uint8. times: (T,)
    seconds. events: (n,) seconds. duration: seconds.
    """

    name: str
    kind: str
    event: str
    frames: np.ndarray
    times: np.ndarray
    events: np.ndarray
    duration: float


def list_videos(folder: Path) -> list[Path]:
    """The videos in `folder`, sorted by name; there is at least one.

    Raises:
        MediaError: there is none.
    """
    if not folder.is_dir():
        raise MediaError(f"{shown(folder)}: is not a folder; give one of videos")
    videos = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        raise MediaError(f"{shown(folder)}: holds no video; want {', '.join(VIDEO_SUFFIXES)}")
    return videos


def has_facts(video: Path) -> bool:
    """Whether a JSON file lies beside a video."""
    return video.with_suffix(".json").exists()


def read_each(videos: Iterable[Path], read: Callable[[Path], T]) -> Iterator[T]:
    """What `read` gives of each video, one in memory at a time; a warning where it refuses one."""
    for video in videos:
        try:
            content = read(video)
        except MediaError as error:
            log.warning("left out: %s", error)
        else:
            yield content


def read_films(videos: Iterable[Path]) -> Iterator[Film]:
    """Those that can be read, see `read_film`; a warning for each that cannot."""
    return read_each(videos, read_film)


def read_film(path: Path) -> Film:
    """A video with the facts in the JSON file of the same name.

    Raises:
        MediaError: which file is missing or wrong.
    """
    facts = _read_facts(path.with_suffix(".json"), path)
    frames, times = read_video(path)
    duration = float(times[-1] + np.median(np.diff(times)))
    events = np.sort(np.array(facts["events_s"], np.float64))
    outside = events[(events < 0) | (events > duration)]
    if len(outside):
        raise MediaError(
            f"{shown(path)}: event at {outside[0]:g} s, but the video lasts {duration:.2f} s; "
            f"correct events_s in {shown(path.with_suffix('.json').name)}"
        )
    kind, event = facts.get("kind", "clip"), facts.get("event", EVENTS[0])
    return Film(path.stem, kind, event, frames, times, events, duration)


def _read_facts(path: Path, video: Path) -> dict[str, Any]:
    name = shown(path)
    try:
        facts: Any = json.loads(path.read_text())
    except FileNotFoundError:
        raise MediaError(
            f"{shown(video)}: has no {shown(path.name)} beside it; write {_FACTS}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = decoder_message(error)
        raise MediaError(f"{name}: cannot be read ({reason}); write {_FACTS}") from error
    events = facts.get("events_s") if isinstance(facts, dict) else None
    if not isinstance(events, list) or not all(_is_time(event) for event in events):
        found = shown(repr(events))
        raise MediaError(f"{name}: events_s is {found}; want a list of seconds, {_FACTS}")
    kind, event = facts.get("kind", ""), facts.get("event", EVENTS[0])
    if not isinstance(kind, str):
        raise MediaError(f"{name}: kind is {shown(repr(kind))}; want a text to tabulate by")
    if event not in EVENTS:
        raise MediaError(f"{name}: event is {shown(repr(event))}; want {' or '.join(EVENTS)}")
    return dict(facts)


def _is_time(value: object) -> bool:
    """Whether `value` is a number that a float holds and that is finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def read_video(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames, shrunk to `_ROWS`, and their times in seconds from the beginning of the file.

    Raises:
        MediaError: what is wrong with the video.
    """
    name = shown(path)
    frames: list[np.ndarray] = []
    times: list[float] = []
    try:
        with (
            open(path, "rb", buffering=0) as file,
            open_container(file, FILM_CODECS, FILM_CONTAINERS) as container,
        ):
            origin = (container.start_time or 0) / av.time_base
            for frame in container.decode(video=0):
                rows = min(_ROWS, frame.height)
                columns = max(1, round(frame.width * rows / frame.height))
                small = frame.reformat(columns, rows, "rgb24", interpolation="AREA")
                frames.append(small.to_ndarray())
                times.append(float(frame.time) - origin)
    except (OSError, av.FFmpegError, IndexError, TypeError, ValueError) as error:
        reason = decoder_message(error)
        raise MediaError(f"{name}: not a video that can be read ({reason})") from error
    if len(frames) < 3 or (np.diff(times) <= 0).any():
        raise MediaError(
            f"{name}: {counted(len(frames), 'frame')} at times that do not all ascend; "
            "want at least 3 that do"
        )
    if len({frame.shape for frame in frames}) > 1:
        raise MediaError(f"{name}: its frames change their shape; want one shape for all")
    return np.stack(frames), np.array(times)
