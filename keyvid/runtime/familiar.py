"""A word where a model is asked for what it was not trained on."""

from dataclasses import replace

import numpy as np

from keyvid.remarks import remark
from keyvid.runtime.encoding import decode
from keyvid.runtime.networks.stages import StageRunner


def say_what_is_foreign(
    stages: StageRunner, picture: np.ndarray, latent: np.ndarray, prompt: str
) -> None:
    """Remark on a prompt or a picture that the bundle's model does not know, if it knows little.

    A picture is foreign if the autoencoder cannot reconstruct it well, as it can its training data.

    Args:
        picture: (H, W, 3) uint8.
        latent: (1, C, h, w) of the picture.
    """
    familiar = stages.bundle.familiar
    if not familiar:
        return
    known = ", ".join(familiar.prompts)
    if prompt and not set(prompt.lower().split()) & set(familiar.prompts):
        remark(f"prompt {prompt[:40]!r}: the model {stages.bundle.name} only knows {known}")
    if _kept_db(stages, picture, latent) < familiar.picture_psnr_db:
        remark(
            f"the picture is unlike those that the model {stages.bundle.name} was trained on "
            f"(drawings of {known}); the clip will not be good"
        )


def _kept_db(stages: StageRunner, picture: np.ndarray, latent: np.ndarray) -> float:
    """PSNR of the picture after the autoencoder, dB."""
    quiet = replace(stages, progress=None)  # the decoder's turn in the clip comes later
    (kept,) = decode(quiet, latent[:, :, np.newaxis])
    error = np.mean((kept.astype(np.float64) - picture) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
