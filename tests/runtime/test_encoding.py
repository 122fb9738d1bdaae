from types import SimpleNamespace

import numpy as np
import pytest

from keyvid.runtime.diffusion.noise import seeded
from keyvid.runtime.encoding import decode, encode_first_frame

SCALE = 0.5


class StandInStages:
    """Stands in for the stages: an autoencoder that keeps pixels as they are."""

    def __init__(self, *, latent_sample: bool, log_variance: float = 0.0):
        conditioning = SimpleNamespace(latent_scale=SCALE, latent_sample=latent_sample)
        self.bundle = SimpleNamespace(conditioning=conditioning)
        self.log_variance = log_variance

    def apply(self, name, rows):
        if name == "vae_decoder":
            return rows
        return np.concatenate([rows, np.full_like(rows, self.log_variance)], axis=1)


PICTURE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def test_mean_of_the_posterior():
    stages = StandInStages(latent_sample=False)
    rng, untouched = seeded(0), seeded(0)
    latent = encode_first_frame(stages, PICTURE, rng)
    assert latent.dtype == np.float32
    assert np.allclose(latent[0], SCALE * (PICTURE.transpose(2, 0, 1) / 127.5 - 1), atol=1e-6)
    assert rng.bit_generator.state == untouched.bit_generator.state


@pytest.mark.parametrize(
    ("log_variance", "deviation"), [(0.0, 1.0), (2.0, np.e), (99.0, np.exp(10))]
)
def test_sample_of_the_posterior(log_variance, deviation):
    stages = StandInStages(latent_sample=True, log_variance=log_variance)
    latent = encode_first_frame(stages, PICTURE, seeded(0))
    mean = PICTURE.transpose(2, 0, 1)[np.newaxis] / 127.5 - 1
    noise = seeded(0).standard_normal((1, 3, 4, 6), np.float32)
    assert latent.dtype == np.float32
    assert np.allclose(latent, SCALE * (mean + deviation * noise), rtol=1e-5)


def test_decoding_gives_the_pixels_back():
    video = np.random.default_rng(1).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    latents = SCALE * (video.transpose(3, 0, 1, 2)[np.newaxis].astype(np.float32) / 127.5 - 1)
    assert np.array_equal(decode(StandInStages(latent_sample=False), latents), video)
    beyond = np.array([-9.0, 9.0], np.float32).reshape(1, 1, 2, 1, 1).repeat(3, axis=1)
    assert decode(StandInStages(latent_sample=False), beyond)[:, 0, 0, 0].tolist() == [0, 255]
