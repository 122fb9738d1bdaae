"""What goes into the diffusion and what comes out: motion, conditions, latents, frames."""

import numpy as np

from keyvid.bundle.tokenizer import TOKENIZER, tokenize
from keyvid.runtime.clip_image import clip_pixels
from keyvid.runtime.conditioning import Conditions
from keyvid.runtime.noise import standard_noise
from keyvid.runtime.stages import StageRunner

LOG_VARIANCE_RANGE = -30.0, 20.0  # the autoencoder's own clamp


def score_motion(stages: StageRunner, mel: np.ndarray) -> np.ndarray:
    """(T,) float32 motion per frame that the sound calls for, from its mel (bins, frames)."""
    num_frames = stages.bundle.dimensions.localizer_frames
    (motion,) = stages.apply("localizer", mel[np.newaxis, np.newaxis, :, :num_frames])
    return np.asarray(motion)


def encode_conditions(
    stages: StageRunner, picture: np.ndarray, prompt: str, mel: np.ndarray
) -> Conditions:
    """Tokens of what is given and of nothing: the grey picture, the empty prompt, a mel of zeros.

    Args:
        picture: (H, W, 3) uint8.
        mel: (bins, frames) float32, normalised.
    """
    size = stages.bundle.dimensions
    scaled = _to_network_range(picture)
    pictures = [clip_pixels(image, size.clip_image_size) for image in (0 * scaled, scaled)]
    path = stages.bundle.path / TOKENIZER
    tokens = tokenize(path, ["", prompt], size.text_tokens, size.vocabulary)
    mels = np.stack([np.zeros_like(mel), mel])[:, np.newaxis]  # (2, 1, bins, frames)
    return Conditions(
        image=stages.apply("image_encoder", np.concatenate(pictures)),
        text=stages.apply("text_encoder", tokens),
        audio=stages.apply("audio_encoder", mels),
    )


def encode_first_frame(
    stages: StageRunner, picture: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Latent (1, C, h, w) of `picture` (H, W, 3) uint8, a posterior sample or its mean."""
    conditioning = stages.bundle.conditioning
    pixels = _to_network_range(picture).transpose(2, 0, 1)[np.newaxis]  # (1, 3, H, W)
    latent, log_variance = np.split(stages.apply("vae_encoder", pixels), 2, axis=1)
    if conditioning.latent_sample:
        deviation = np.exp(0.5 * log_variance.clip(*LOG_VARIANCE_RANGE))
        latent = latent + deviation * standard_noise(latent.shape, rng)
    return conditioning.latent_scale * latent


def decode(stages: StageRunner, latents: np.ndarray) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 of latents (1, C, T, h, w)."""
    rows = latents[0].swapaxes(0, 1) / stages.bundle.conditioning.latent_scale  # (T, C, h, w)
    pixels = stages.apply("vae_decoder", rows)  # (T, 3, H, W)
    pixels = ((pixels + 1) * 127.5).clip(0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def _to_network_range(picture: np.ndarray) -> np.ndarray:
    """uint8 to float32 in [-1, 1]."""
    return picture.astype(np.float32) / 127.5 - 1
