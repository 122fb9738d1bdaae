"""Mel front end of the audio networks: Kaldi-compatible log filterbank (ImageBind's settings)."""

import numpy as np

SAMPLE_RATE = 16000
FRAME_LENGTH = 400  # 25 ms
FRAME_SHIFT = 160  # 10 ms
FFT_SIZE = 512
LOW_HZ, HIGH_HZ = 20.0, SAMPLE_RATE / 2
PREEMPHASIS = 0.97
MEAN, SCALE = -4.268, 9.138  # ImageBind's normalisation of the log energies


def log_mel(waveform: np.ndarray, num_bins: int = 128, num_frames: int = 204) -> np.ndarray:
    """Normalised log-mel energies.

    Args:
        waveform: (n,) mono samples at 16 kHz in [-1, 1], at least 25 ms.
    Returns:
        (num_bins, num_frames) float32. Frames past the end of the sound hold log energy 0, as in
        the released padding, not silence.
    """
    samples = waveform.astype(np.float64)
    samples -= samples.mean()
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME_LENGTH)[::FRAME_SHIFT]
    frames = frames[:num_frames] - frames[:num_frames].mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)  # the first sample repeats
    frames = (frames - PREEMPHASIS * before) * np.hanning(FRAME_LENGTH)
    power = np.abs(np.fft.rfft(frames, FFT_SIZE)) ** 2  # (frames, 257)
    energies = np.maximum(power @ mel_filters(num_bins).T, np.finfo(np.float32).eps)
    log_energies = np.zeros((num_frames, num_bins))
    log_energies[: len(energies)] = np.log(energies)
    return np.asarray((log_energies.T - MEAN) / SCALE, np.float32)


def mel_filters(num_bins: int) -> np.ndarray:
    """(num_bins, 257) float64 triangles, evenly spaced and straight in HTK mel."""
    edges = np.linspace(_hertz_to_mel(LOW_HZ), _hertz_to_mel(HIGH_HZ), num_bins + 2)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    mel = _hertz_to_mel(np.arange(FFT_SIZE // 2 + 1) * SAMPLE_RATE / FFT_SIZE)
    rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
    triangles: np.ndarray = np.minimum(rising, falling)
    return triangles.clip(min=0)


def _hertz_to_mel(hertz: np.ndarray | float) -> np.ndarray:
    return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0))
