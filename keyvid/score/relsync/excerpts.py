"""Two seconds out of films, as the judge takes them: twelve frames and their sound."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from keyvid.counting import counted
from keyvid.errors import MediaError
from keyvid.runtime.media.sound import Sound, read_sound, to_mono
from keyvid.runtime.media.sources import decoder_message, shown
from keyvid.runtime.mel import SAMPLE_RATE
from keyvid.score.film import list_videos
from keyvid.score.relsync.pixels import shrink_frames

_SHORT = 0.05  # seconds that a film may lack: containers round
_APART = 0.5  # seconds between the beginnings of excerpts, at least
_ROUNDING = 1e-3  # seconds that timestamps are off
_SILENCE = 1e-4  # of full scale


@dataclass(frozen=True)
class Excerpt:
    """A part of a film.

    start: seconds. frames: (F, H, W, 3) uint8 RGB. true_frames: the same of the true film, None
    without one. waveform: (n,) float32 mono at 16 kHz, of the true film where there is one.
    """

    start: float
    frames: np.ndarray
    true_frames: np.ndarray | None
    waveform: np.ndarray


@dataclass(frozen=True)
class Span:
    """Which part of a film the judge takes: `num_frames` at `fps` a second."""

    num_frames: int
    fps: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.num_frames / self.fps


def find_films(folder: Path, reference: Path | None) -> list[tuple[Path, Path | None]]:
    """The films of `folder`, each with the one of the same name in `reference`.

    Raises:
        MediaError: there is none, or one has no true film.
    """
    films = list_videos(folder)
    if reference is None:
        return [(film, None) for film in films]
    true_films = {film.stem: film for film in list_videos(reference)}
    for film in films:
        if film.stem not in true_films:
            raise MediaError(
                f"{shown(film)}: {shown(reference)} holds no film called {shown(film.stem)}; "
                "add it, or leave this one out"
            )
    return [(film, true_films[film.stem]) for film in films]


def read_excerpts(
    film: Path, true_film: Path | None, span: Span, count: int, first_size: int | None = None
) -> list[Excerpt]:
    """Up to `count` excerpts of a film, spread evenly, and of the true film at the same times.

    Args:
        first_size: side of the square that all frames are squeezed to, None for as they are.
    Raises:
        MediaError: what is wrong with one of the films.
    """
    sides = [film] if true_film is None else [film, true_film]
    times = [_frame_times(side) for side in sides]
    durations = [_duration(side, of_side, span) for side, of_side in zip(sides, times, strict=True)]
    starts = choose_starts(min(durations), span.seconds, count)
    pictures = [_read_frames(*side, starts, span) for side in zip(sides, times, strict=True)]
    if first_size:
        pictures = [[shrink_frames(x, first_size) for x in of_side] for of_side in pictures]
    return [
        Excerpt(
            start,
            pictures[0][index],
            pictures[1][index] if true_film else None,
            _read_sound(sides[-1], start, span.seconds),
        )
        for index, start in enumerate(starts)
    ]


def choose_starts(duration: float, seconds: float, count: int) -> list[float]:
    """Beginnings of up to `count` excerpts, from the first to the last that is possible.

    There are fewer where they would be less than half a second apart.
    """
    room = max(duration - seconds, 0.0)
    count = min(count, 1 + int(room / _APART))
    return [round(float(start), 4) for start in np.linspace(0, room, count)]


def _frame_times(film: Path) -> np.ndarray:
    """(T,) seconds from the beginning of the file's clock, ascending."""
    with _decoded(film) as (frames, origin):
        times = np.array([float(frame.time) - origin for frame in frames])
    if len(times) < 2 or (np.diff(times) <= 0).any():
        raise MediaError(
            f"{shown(film)}: {counted(len(times), 'frame')} at times that do not all ascend; "
            "want a film, at least two frames that do"
        )
    return times


def _duration(film: Path, times: np.ndarray, span: Span) -> float:
    """Seconds that a film lasts, if they are enough for the judge."""
    duration = float(times[-1] + np.median(np.diff(times)))
    if duration < span.seconds - _SHORT:
        raise MediaError(
            f"{shown(film)}: lasts {duration:.2f} s, the judge takes {span.seconds:g} s; "
            "leave it out"
        )
    return duration


def _read_frames(
    film: Path, times: np.ndarray, starts: Sequence[float], span: Span
) -> list[np.ndarray]:
    """What is seen at the times of each excerpt, (F, H, W, 3) uint8."""
    grid = np.array(starts)[:, None] + np.arange(span.num_frames) / span.fps
    numbers = np.searchsorted(times, grid + _ROUNDING, side="right").clip(min=1) - 1
    wanted = set(numbers.flat)
    with _decoded(film) as (frames, _):
        images = {
            number: frame.to_ndarray(format="rgb24")
            for number, frame in enumerate(frames)
            if number in wanted
        }
    if len({image.shape for image in images.values()}) > 1:
        raise MediaError(f"{shown(film)}: its frames change their shape; want one shape for all")
    return [np.stack([images[number] for number in row]) for row in numbers.tolist()]


def _read_sound(film: Path, start: float, seconds: float) -> np.ndarray:
    """(n,) float32, what is heard in an excerpt."""
    excerpt = read_sound(film, seconds, start)
    waveform = to_mono(Sound(excerpt.samples, excerpt.rate), SAMPLE_RATE, seconds)
    if np.abs(waveform).max() < _SILENCE:
        raise MediaError(
            f"{shown(film)}: silent from {start:g} s to {start + seconds:g} s, so nothing can fit; "
            "leave it out"
        )
    return waveform


@contextmanager
def _decoded(film: Path) -> Iterator[tuple[Iterable[Any], float]]:
    """The frames of a film, and where its clock begins in their times."""
    try:
        with av.open(str(film)) as container:
            if not container.streams.video:
                raise MediaError(f"{shown(film)}: holds no picture; give a film")
            container.streams.video[0].thread_type = "AUTO"
            yield container.decode(video=0), (container.start_time or 0) / av.time_base
    except (av.FFmpegError, TypeError, ValueError) as error:
        reason = decoder_message(error)
        raise MediaError(f"{shown(film)}: not a video that can be read ({reason})") from error
