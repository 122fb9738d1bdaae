import numpy as np
import torch

from keyvid_ref.mel import log_mel, mel_filters


def test_log_mel_is_kaldis(parity, relative_error):
    data = parity("mel")
    mel = log_mel(torch.from_numpy(data["waveform"]))
    assert mel.shape == (128, 204)
    # The logarithm of nearly empty bins amplifies float32 rounding of the transform to 1e-5.
    assert relative_error(mel, data["output"][0]) < 5e-5


def test_a_batch_gives_what_its_rows_give(fill):
    waveforms = torch.from_numpy(0.1 * fill.tensor("waveforms", (2, 32_000)))
    batch = log_mel(waveforms)
    torch.testing.assert_close(batch, torch.stack([log_mel(row) for row in waveforms]))


def test_silence_is_the_floor_and_padding_is_zero_before_normalisation():
    mel = log_mel(torch.zeros(32_000))
    floor = (np.log(np.finfo(np.float32).eps) + 4.268) / 9.138
    torch.testing.assert_close(mel[:, :198], torch.full((128, 198), floor, dtype=torch.float32))
    torch.testing.assert_close(mel[:, 198:], torch.full((128, 6), 4.268 / 9.138))


def test_a_tone_is_loudest_in_its_own_bin():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(32_000) / 16_000)
    loudest = log_mel(tone)[:, :198].mean(1).argmax()
    assert mel_filters()[loudest, 1000 * 512 // 16_000] > 0.4
