"""Log mel spectrogram as Kaldi computes it, normalised as ImageBind expects it."""

import torch
from torch import Tensor
from torch.nn import functional

SAMPLE_RATE = 16_000
NUM_BINS = 128
NUM_FRAMES = 204  # the 198 frames of 2 s, padded
FRAME_LENGTH = 400  # 25 ms
FRAME_SHIFT = 160  # 10 ms

_FFT_LENGTH = 512
_PREEMPHASIS = 0.97
_LOWEST_HZ = 20.0
_MEAN, _STD = -4.268, 9.138  # ImageBind


def log_mel(waveform: Tensor) -> Tensor:
    """Normalised log mel spectrogram of two seconds of sound.

    Args:
        waveform: (..., n) float32 in [-1, 1] at 16 kHz, n >= 400.
    Returns:
        (..., 128, 204) float32; frames past the sound hold 0 before the normalisation, frames
        past 204 are dropped.
    """
    waveform = waveform - waveform.mean(-1, keepdim=True)
    frames = waveform.unfold(-1, FRAME_LENGTH, FRAME_SHIFT)  # (..., frames, 400)
    frames = frames - frames.mean(-1, keepdim=True)
    previous = torch.cat([frames[..., :1], frames[..., :-1]], -1)
    frames = (frames - _PREEMPHASIS * previous) * torch.hann_window(FRAME_LENGTH, periodic=False)
    power = torch.fft.rfft(frames, _FFT_LENGTH).abs() ** 2  # (..., frames, 257)
    energy = power @ mel_filters().T  # (..., frames, 128)
    log_energy = energy.clamp(min=torch.finfo(torch.float32).eps).log().transpose(-1, -2)
    padding = NUM_FRAMES - log_energy.shape[-1]  # negative: cut
    return (functional.pad(log_energy, (0, padding)) - _MEAN) / _STD


def mel_filters() -> Tensor:
    """(128, 257) triangles, equally wide on the HTK mel scale between 20 Hz and Nyquist."""
    mel_of_fft = _hz_to_mel(torch.arange(_FFT_LENGTH // 2 + 1) * SAMPLE_RATE / _FFT_LENGTH)
    lowest, highest = _hz_to_mel(torch.tensor([_LOWEST_HZ, SAMPLE_RATE / 2])).tolist()
    edges = torch.linspace(lowest, highest, NUM_BINS + 2, dtype=torch.float64)[:, None]
    rising = (mel_of_fft - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel_of_fft) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


def _hz_to_mel(frequency: Tensor) -> Tensor:
    return 1127 * torch.log(1 + frequency.double() / 700)
