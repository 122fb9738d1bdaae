"""What goes into the diffusion and what comes out: motion, conditions, latents, frames."""

import numpy as np

from keyvid.bundle.tokenizer import TOKENIZER, tokenize
from keyvid.runtime.clip_image import clip_pixels
from keyvid.runtime.diffusion.noise import standard_noise
from keyvid.runtime.mel import log_mel
from keyvid.runtime.networks.stages import StageRunner

LOG_VARIANCE_RANGE = -30.0, 20.0  # the autoencoder's own clamp

_LAST_SECONDS = 0.1  # of a sound, of which its fading end is made
_FADE_SECONDS = 0.3  # in which it falls by 9 dB


def segment_mel(stages: StageRunner, mono: np.ndarray, start: int) -> np.ndarray:
    """(bins, frames) float32 mel of the sound of a segment that begins at frame `start`.

    Args:
        mono: (n,) float32 sound of the clip at the bundle's rate; it dies away after its end.
    """
    size = stages.bundle.dimensions
    first = round(start * size.sample_rate / size.fps)
    count = round(size.frames * size.sample_rate / size.fps)
    heard = mono[first : first + count]
    heard = _dying_away(heard, count, size.sample_rate)
    return log_mel(heard, size.mel_bins, size.mel_frames)


def _dying_away(samples: np.ndarray, count: int, rate: int) -> np.ndarray:
    """`count` samples: those given, then what sounds like their end and fades.

    Where a sound breaks off, the networks hear an event.
    """
    missing = count - len(samples)
    last = samples[-round(_LAST_SECONDS * rate) :]
    if missing <= 0 or not len(last):
        return np.pad(samples, (0, max(missing, 0)))
    more = np.pad(last, (0, missing), mode="symmetric")[len(last) :]
    fade = np.exp(-np.arange(missing) / (_FADE_SECONDS * rate))
    return np.concatenate([samples, more * fade.astype(np.float32)])


def score_motion(stages: StageRunner, mono: np.ndarray, num_frames: int) -> np.ndarray:
    """(num_frames,) float32 motion per frame that the sound calls for.

    A sound longer than the network's is heard in pieces that overlap by half; the nearer a frame
    is to the middle of a piece, the more its score counts.

    Args:
        mono: (n,) float32 sound at the bundle's rate.
        num_frames: at least those of one segment.
    """
    size = stages.bundle.dimensions
    last = num_frames - size.frames
    starts = sorted({*range(0, last, size.frames // 2), last})
    mels = [segment_mel(stages, mono, start)[:, : size.localizer_frames] for start in starts]
    scores = stages.apply("localizer", np.stack(mels)[:, np.newaxis])  # (pieces, T)
    place = np.arange(size.frames)
    weight = np.minimum(place + 1, size.frames - place).astype(np.float32)
    total, weights = np.zeros(num_frames, np.float32), np.zeros(num_frames, np.float32)
    for start, piece in zip(starts, scores, strict=True):
        total[start : start + size.frames] += weight * piece
        weights[start : start + size.frames] += weight
    return total / weights


def encode_picture_and_prompt(
    stages: StageRunner, picture: np.ndarray, prompt: str
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of `picture` (H, W, 3) uint8 and `prompt`, each after those of its absence.

    Absence is the grey picture and the empty prompt.

    Returns:
        image (2, T * Q, D) and text (2, N, D).
    """
    size = stages.bundle.dimensions
    scaled = _to_network_range(picture)
    pictures = [clip_pixels(image, size.clip_image_size) for image in (0 * scaled, scaled)]
    path = stages.bundle.path / TOKENIZER
    tokens = tokenize(path, ["", prompt], size.text_tokens, size.vocabulary)
    image = stages.apply("image_encoder", np.concatenate(pictures))
    return image, stages.apply("text_encoder", tokens)


def encode_sound(stages: StageRunner, mel: np.ndarray) -> np.ndarray:
    """(2, 1 + P * T, A) tokens of a mel of zeros, which is no sound, and of `mel`."""
    return stages.apply("audio_encoder", np.stack([np.zeros_like(mel), mel])[:, np.newaxis])


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
