import numpy as np

from keyvid.runtime.mel import FRAME_LENGTH, log_mel, mel_filters


def test_fixture(parity, relative_error):
    data = parity("mel")
    got = log_mel(data["waveform"])
    assert got.dtype == np.float32
    # The release works in float32; near-silent bands differ in the logarithm, the whole does not.
    assert relative_error(got[None], data["output"]) < 5e-5


def test_tone_falls_into_its_band():
    hertz = np.linspace(0, 8000, 257)
    for tone in (250.0, 1000.0, 4000.0):
        wave = np.sin(2 * np.pi * tone * np.arange(32000) / 16000).astype(np.float32)
        loudest = log_mel(wave)[:, 50].argmax()
        centre = hertz[mel_filters(128)[loudest].argmax()]
        assert abs(centre - tone) <= 8000 / 256  # one bin of the spectrum


def test_length_of_the_sound():
    short, long = np.ones(FRAME_LENGTH, np.float32), np.ones(5 * 16000, np.float32)
    silence = np.log(np.finfo(np.float32).eps)
    assert np.allclose(log_mel(short)[:, 0], (silence + 4.268) / 9.138)
    assert np.allclose(log_mel(short)[:, 1:], 4.268 / 9.138)  # padding is log energy 0
    assert log_mel(long).shape == (128, 204)
    assert np.allclose(log_mel(long), (silence + 4.268) / 9.138)
