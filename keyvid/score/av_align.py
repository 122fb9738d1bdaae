"""AV-Align, the figure that papers report for clips whose events nobody knows.

Onsets of the sound against peaks of the motion: how many find one of the other kind within one
frame, over how many there are (intersection over union; Yariv et al., Diverse and Aligned
Audio-to-Video Generation via Text-to-Video Model Adaptation, 2023). The motion here is the frame
difference, in place of optical flow. Every local peak of it counts, however small: flicker lowers
the figure although nothing is out of time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from keyvid.score.film import read_video
from keyvid.score.motion import motion_curve
from keyvid.score.report import Table, two, with_interval

_RATE = 16_000
_WINDOW, _STEP = 400, 160  # samples: 25 ms every 10 ms
_RANGE = 8.0  # below the loudest, in units of ln(power): 35 dB; what is softer is silence
# How an onset is picked from the flux, as in librosa's onset_detect: the highest of the last 30 ms,
# above the mean of 100 ms on either side by so much of the largest, 30 ms after the one before.
_PEAK_STEPS, _MEAN_STEPS, _DELTA, _WAIT_STEPS = 4, 21, 0.07, 3
_BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True)
class Alignment:
    """AV-Align of one clip; `value` is None where nothing is heard and nothing moves."""

    name: str
    onsets: int
    peaks: int
    value: float | None


def align_video(path: Path) -> Alignment:
    """AV-Align of a video with its own sound.

    Raises:
        MediaError: picture or sound cannot be read, or there is none.
    """
    # Sounds are decoded by a library that the other measures do not need.
    from keyvid.runtime.media.sound import Sound, read_sound, to_mono

    frames, times = read_video(path)
    seconds = float(times[-1] + np.median(np.diff(times)))
    samples, rate, _ = read_sound(path, seconds)
    return align(path.stem, frames, times, to_mono(Sound(samples, rate), _RATE, seconds))


def align(name: str, frames: np.ndarray, times: np.ndarray, mono: np.ndarray) -> Alignment:
    """AV-Align of a clip.

    Args:
        frames: (T, H, W, 3) uint8 at `times` (T,) in seconds.
        mono: (n,) sound at 16 kHz.
    """
    onsets, peaks = find_onsets(mono), find_motion_peaks(frames, times)
    frame_s = float(np.median(np.diff(times)))
    value = overlap(onsets, peaks, frame_s) if len(onsets) + len(peaks) else None
    return Alignment(name, len(onsets), len(peaks), value)


def overlap(onsets: np.ndarray, peaks: np.ndarray, within: float) -> float:
    """Pairs over all that is in one or the other, 0 to 1; there is at least one.

    Args:
        onsets, peaks: ascending seconds; each is taken for one pair at most, the earliest first.
        within: the seconds between them are fewer.
    """
    pairs, first = 0, 0
    for onset in onsets:
        while first < len(peaks) and peaks[first] <= onset - within:
            first += 1
        if first < len(peaks) and peaks[first] < onset + within:
            pairs += 1
            first += 1
    return pairs / (len(onsets) + len(peaks) - pairs)


def find_onsets(mono: np.ndarray) -> np.ndarray:
    """(n,) seconds at which a sound (n,) at 16 kHz begins anew: peaks of its spectral flux."""
    if len(mono) < _WINDOW + _STEP:
        return np.zeros(0)
    windows = np.lib.stride_tricks.sliding_window_view(mono, _WINDOW)[::_STEP]
    power = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW))) ** 2  # (steps, bins)
    energies = np.log(np.maximum(power, max(float(power.max()), 1e-12) * np.exp(-_RANGE)))
    flux = np.append(0.0, np.maximum(np.diff(energies, axis=0), 0).mean(axis=1))
    if flux.max() <= 0:
        return np.zeros(0)
    flux = flux / flux.max()
    highest = maximum_filter1d(flux, _PEAK_STEPS, origin=_PEAK_STEPS // 2 - 1, mode="nearest")
    mean = uniform_filter1d(flux, _MEAN_STEPS, mode="nearest")
    onsets: list[int] = []
    for step in np.flatnonzero((flux == highest) & (flux >= mean + _DELTA)):
        if not onsets or step - onsets[-1] > _WAIT_STEPS:
            onsets.append(int(step))
    return (np.array(onsets) * _STEP + _WINDOW / 2) / _RATE


def find_motion_peaks(frames: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(n,) seconds of the frames in which more moves than in both neighbours."""
    curve = motion_curve(frames, times)
    above = (curve[1:-1] > curve[:-2]) & (curve[1:-1] > curve[2:])
    peaks: np.ndarray = times[1 + np.flatnonzero(above)]
    return peaks


def format_alignments(clips: Sequence[Alignment]) -> str:
    """A row for each clip, and their mean."""
    rows = [[clip.name, str(clip.onsets), str(clip.peaks), two(clip.value)] for clip in clips]
    mean = mean_alignment(clips)
    rows.append(["mean", "", "", with_interval(*mean) if mean else "-"])
    return f"{Table(['clip', 'onsets', 'peaks of motion', 'AV-Align'], rows)}\n"


def mean_alignment(clips: Sequence[Alignment]) -> tuple[float, tuple[float, float]] | None:
    """Mean over the clips that have a value, and its 95 % interval by bootstrap; None for none."""
    values = np.array([clip.value for clip in clips if clip.value is not None])
    if not len(values):
        return None
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(_BOOTSTRAP_SAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), (float(low), float(high))
