"""A sound whose events are moved to beats, for the networks to hear in place of the given one.

The networks move things when they hear something. So what is heard in the sound, one event after
the other and again from the first, is put where the beats are.
"""

import numpy as np

from keyvid.runtime.diffusion.keyframes import find_peaks

# Of the motion that a localizer scores: frames between neighbouring events, and how far one stands
# out, in itself and of the curve's range.
_DISTANCE, _LEAST, _PROMINENCE = 4, 0.1, 0.15
# Seconds around an event that keep their pace: of what announces it, and of how it rings.
_BEFORE, _AFTER = 0.12, 0.2
_SPARED = 0.06  # seconds before an event that is left out, where its attack may begin
_HOP = 0.01  # seconds: half a window of what is added up
_SCATTER = 0.03  # seconds by which windows of what is drawn out are taken from elsewhere


def find_events(motion: np.ndarray, fps: float) -> np.ndarray:
    """(n,) float64 seconds at which a motion curve (F,) has its peaks, between frames too."""
    curve = motion.astype(np.float64)
    peaks = find_peaks(curve, _DISTANCE, max(_LEAST, _PROMINENCE * float(np.ptp(curve))))
    left, top, right = curve[peaks - 1], curve[peaks], curve[peaks + 1]
    bend = 2 * top - left - right  # 0 on a flat top
    summits = peaks + np.where(bend > 0, (right - left) / np.where(bend > 0, 2 * bend, 1), 0)
    return np.asarray(summits / fps, np.float64)


def move_events(
    samples: np.ndarray, rate: int, events: np.ndarray, beats: np.ndarray
) -> np.ndarray:
    """(n,) float32: the sound with its events where the beats are.

    Around an event the sound keeps its pace; between two of them what is too long is left out, and
    what is too short is drawn out.

    Args:
        samples: (n,) float32.
        events: (m,) seconds at which something is heard, ascending; at least one.
        beats: (k,) seconds within the sound, ascending and distinct; at least one.
    """
    hop = round(_HOP * rate)
    places = np.arange(len(samples) // hop + 2) * hop  # middles of the windows
    heard = source_times(places / rate, events, beats, len(samples) / rate)
    # Drawn out evenly, the same few windows would hum.
    drawn_out = np.clip(1 - np.gradient(heard) / _HOP, 0, 1)
    heard += _SCATTER * drawn_out * np.random.default_rng(0).uniform(-1, 1, len(heard))
    sources = np.round(heard * rate).astype(np.int64)[:, np.newaxis] + np.arange(-hop, hop)
    window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop)) ** 2  # two add up to 1
    parts = window * samples[sources % len(samples)]  # (windows, 2 hop)
    moved = parts[1:, :hop] + parts[:-1, hop:]
    return np.asarray(moved.reshape(-1)[: len(samples)], np.float32)


def source_times(
    times: np.ndarray, events: np.ndarray, beats: np.ndarray, seconds: float
) -> np.ndarray:
    """(n,) seconds of the sound that is to be heard at `times` (n,), see `move_events`.

    The sound begins again after its end, so that they may lie beyond `seconds`.
    """
    numbers = np.arange(len(beats) + 1)
    unrolled = events[numbers % len(events)] + seconds * (numbers // len(events))
    # After the last event the sound goes on as long as nothing else happens in it.
    end = seconds * (1 + (len(beats) - 1) // len(events))
    rest = min(end, max(unrolled[-1] - _SPARED, unrolled[-2] + _HOP))
    marks = np.concatenate([[0], beats, [seconds]])
    heard = np.concatenate([[0], unrolled[:-1], [rest]])
    knots: list[tuple[float, float]] = []
    for i in range(len(marks) - 1):
        after, before = _AFTER if i else 0.0, _BEFORE if i < len(beats) else 0.0
        knots += _knots((marks[i], marks[i + 1]), (heard[i], heard[i + 1]), after, before)
    knots.append((seconds + 1, rest + 1))  # windows at the end reach beyond it
    places, sources = np.array(knots).T
    return np.asarray(np.interp(times, places, sources), np.float64)


def _knots(
    place: tuple[float, float], heard: tuple[float, float], after: float, before: float
) -> list[tuple[float, float]]:
    """Points (time, source) of the broken line that fills `place` with what is `heard` there.

    Args:
        after, before: seconds at either end that keep their pace, where there is room.
    """
    length, found = place[1] - place[0], heard[1] - heard[0]
    before = min(before, length / 2 if after else length, found / 2 if after else found)
    after = min(after, found / 2) if length > found else length - before
    return [
        (place[0], heard[0]),
        (place[0] + after, heard[0] + after),
        (place[1] - before, heard[1] - before),
        (place[1], heard[1]),
    ]
