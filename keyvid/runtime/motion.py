"""Motion that a caller tells: how much should move in each frame, in place of the localizer."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keyvid.counting import counted
from keyvid.errors import SettingsError
from keyvid.runtime.media.sources import open_source, shown

AUTO, PACKAGED = "auto", "packaged"  # the bundle's localizer, and that of the packaged model
FIRST = "first"  # the last frame is to be the first one again
SUFFIXES = (".npy", ".csv", ".json")

# As spreadsheets of half the world write, with semicolons or tabs between the cells.
_DECIMAL_COMMA = re.compile(r"(?<![\d.,])(\d+),(\d+)(?![\d.,])")
_BEAT_SECONDS = 0.08  # in which a beat fades: about as in the motion that localizers score
_WANT = (
    f"want auto, packaged, a value for each frame such as 0,0.2,..., or a file that ends in "
    f"{', '.join(SUFFIXES)}"
)


def is_word(motion: object, word: str) -> bool:
    """Whether motion, or another choice, is told by that word."""
    return isinstance(motion, str) and motion.strip().lower() == word


def names_a_file(told: object) -> bool:
    """Whether motion or keyframes are told by the name of a file, not by values or a word."""
    if isinstance(told, os.PathLike):
        return True
    return isinstance(told, str) and Path(told).suffix.lower() in SUFFIXES


def read_motion(
    motion: Any, beats: np.ndarray | None, num_frames: int, fps: int
) -> np.ndarray | None:
    """(num_frames,) float32 motion of each frame as it is told; None to have a localizer hear it.

    Args:
        motion: "auto", "packaged", values in a text, an array of values or of times and values, or
            the name of a file: .npy or .csv with either, .json with either, or with a report.
        beats: those of `read_beats`.
    Raises:
        MediaError: the file cannot be read.
        SettingsError: says what is wrong with the values.
    """
    if beats is not None:
        if not is_word(motion, AUTO):
            raise SettingsError("motion and beats are both given; want one of them")
        return draw_beats(beats, num_frames, fps)
    if is_word(motion, AUTO) or is_word(motion, PACKAGED):
        return None
    name, values = "motion", motion
    if names_a_file(motion):
        name = shown(motion)
        values = _from_file(Path(motion), name)
    return _curve(_array(values, name), name, num_frames, fps)


def read_beats(beats: Any, num_frames: int, fps: int) -> np.ndarray | None:
    """(k,) float64 seconds of the clip, ascending and distinct; None for none at all.

    Args:
        beats: seconds at which something happens, as text or as numbers; None for none.
    Raises:
        SettingsError: they are no numbers, or one lies outside the clip.
    """
    if beats is None:
        return None
    times = np.unique(_numbers(beats, "beats"))
    outside = times[(times < 0) | (times >= num_frames / fps)]
    if len(outside):
        raise SettingsError(
            f"beats: {outside[0]:g} s is outside the clip, which lasts {num_frames / fps:.2f} s"
        )
    return times


def files_told(values: Mapping[str, Any]) -> dict[str, str]:
    """The files of motion, keyframes and last frame, where they are told by one, by choice."""
    told = [name for name in ("motion", "keyframes") if names_a_file(values.get(name))]
    end = values.get("end")
    if isinstance(end, str | os.PathLike) and not is_word(end, FIRST):
        told.append("end")
    return {name: os.fspath(values[name]) for name in told}


def keyframes_text(keyframes: Any) -> str:
    """Keyframes as `parse_keyframes` takes them, also where they stand in a file.

    Raises:
        MediaError, SettingsError: the file cannot be read, or holds something else.
    """
    if not names_a_file(keyframes):
        return str(keyframes)
    name = shown(keyframes)
    numbers = _array(_from_file(Path(keyframes), name), name)
    if numbers.ndim != 1 or not np.isfinite(numbers).all() or (numbers != np.floor(numbers)).any():
        raise SettingsError(f"{name}: holds no row of frame numbers such as 0, 4, 8")
    return ",".join(str(int(number)) for number in numbers)


def draw_beats(times: np.ndarray, num_frames: int, fps: int) -> np.ndarray:
    """(num_frames,) float32: 1 in the frame of each beat, fading before and after it.

    Args:
        times: (n,) seconds of the clip.
    """
    frames = np.floor(times * fps + 0.5).clip(max=num_frames - 1)
    distance = np.abs(np.arange(num_frames)[:, np.newaxis] - frames) / fps  # (num_frames, n)
    curve = np.exp(-distance / _BEAT_SECONDS).max(axis=1, initial=0.0)
    return np.asarray(curve, np.float32)


def at_other_rate(motion: np.ndarray, fps: float, num_frames: int, wanted_fps: float) -> np.ndarray:
    """(num_frames,) float32 at `wanted_fps` of a curve (n,) at `fps`."""
    times, wanted = np.arange(len(motion)) / fps, np.arange(num_frames) / wanted_fps
    return np.asarray(np.interp(wanted, times, motion), np.float32)


def _curve(values: np.ndarray, name: str, num_frames: int, fps: int) -> np.ndarray:
    """A value for each frame, from those or from times and values."""
    if not np.isfinite(values).all():
        raise SettingsError(f"{name}: holds NaN or infinity; want finite numbers")
    if values.ndim == 2 and values.shape[1] == 2 and len(values):
        times, scores = values.T
        if (np.diff(times) <= 0).any():
            raise SettingsError(f"{name}: its times are not in ascending order")
        return np.asarray(np.interp(np.arange(num_frames) / fps, times, scores), np.float32)
    if values.ndim != 1 or len(values) != num_frames:
        shape = " x ".join(map(str, values.shape))
        found = counted(values.size, "value") if values.ndim < 2 else f"{shape} values"
        raise SettingsError(
            f"{name}: holds {found}; want one for each of the {num_frames} frames, or rows "
            "of a time in seconds and a value"
        )
    return values.astype(np.float32)


def _array(values: Any, name: str) -> np.ndarray:
    if isinstance(values, str):
        return _numbers(values, name)
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(values, list | tuple | dict):
            raise SettingsError(
                f"{name}: holds rows of different lengths, or other things than numbers; want a "
                "value for each frame, or rows of a time in seconds and a value"
            ) from error
        raise SettingsError(f"{name} is {str(values)[:40]!r}; {_WANT}") from error


def _numbers(values: Any, name: str) -> np.ndarray:
    """(n,) float64 of a text of numbers, or of any row of them."""
    try:
        parts: Iterable[Any] = values
        if isinstance(values, str):
            parts = [part for part in re.split(r"[,;\s]+", values.strip("[] \t\r\n")) if part]
        numbers = np.array([float(part) for part in parts])
    except (TypeError, ValueError):
        wanted = _WANT if name == "motion" else "want numbers such as 0.5,1.2"
        raise SettingsError(f"{name} is {str(values)[:40]!r}; {wanted}") from None
    if not np.isfinite(numbers).all():
        raise SettingsError(f"{name}: holds NaN or infinity; want finite numbers")
    return numbers


def _from_file(path: Path, name: str) -> Any:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise SettingsError(f"{name}: want a file that ends in {', '.join(SUFFIXES)}")
    with open_source(path, "motion") as (_, file):
        try:
            if suffix == ".npy":
                return np.load(file, allow_pickle=False)
            text = file.read().decode("utf-8-sig")
            return _from_json(text) if suffix == ".json" else _from_csv(text)
        except (ValueError, EOFError, LookupError, TypeError, RecursionError) as error:
            reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
            raise SettingsError(
                f"{name}: holds no numbers as expected ({reason}); want one for each frame, or "
                "rows of a time in seconds and a value"
            ) from None


def _from_json(text: str) -> Any:
    """Values, rows, or the curve of a report."""
    content = json.loads(text)
    return content["motion"] if isinstance(content, dict) else content


def _from_csv(text: str) -> list[list[float]] | list[float]:
    """A value a line, or a time and a value; a first line of words is a heading."""
    lines = [_cells(line) for line in text.splitlines()]
    lines = [line for line in lines if line != [""]]
    if lines and not _is_number(lines[0][0]):
        del lines[0]
    rows = [[float(cell) for cell in line] for line in lines]
    if len(rows) == 1:
        return rows[0]
    return [row[0] for row in rows] if all(len(row) == 1 for row in rows) else rows


def _cells(line: str) -> list[str]:
    if ";" in line or "\t" in line:
        line = _DECIMAL_COMMA.sub(r"\1.\2", line)
    return re.split(r"[,;\s]+", line.strip(" ,;\t\r"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
