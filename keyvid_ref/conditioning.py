"""Which audio and image tokens each frame of a U-Net call receives (both audio token layouts).

"paper" gives a frame the tokens of its own moment. "released" is what the released checkpoints
were trained with: the tokens of all frames regrouped by the number of frequency patches, so that
late keyframes receive sound from before their time.
"""

import torch
from torch import Tensor
from torch.nn import functional


def generator_audio(
    audio_tokens: Tensor, keyframes: Tensor, num_frames: int, layout: str
) -> Tensor:
    """Audio tokens of the keyframes.

    Args:
        audio_tokens: (B, 1 + P*T, A) of the audio encoder, class token first.
        keyframes: (B, K) int64 frame indices.
        num_frames: T.
    Returns:
        (B, K, N, A), N = 1 + P in layout "paper" and P in "released".
    """
    return _select(_audio_groups(audio_tokens, num_frames, layout), keyframes)


def interpolator_audio(audio_tokens: Tensor, num_frames: int, layout: str) -> Tensor:
    """Audio tokens of all frames: (B, 1 + P*T, A) to (B, T, N, A), N as for the generator."""
    groups = _audio_groups(audio_tokens, num_frames, layout)
    if layout == "paper":
        return groups
    batch, _, num_patches, width = groups.shape
    series = groups.permute(0, 2, 3, 1).flatten(1, 2)  # (B, P*A, groups)
    resized = functional.interpolate(series, num_frames, mode="linear", align_corners=False)
    resized = resized.reshape(batch, num_patches, width, num_frames)
    return resized.permute(0, 3, 1, 2)  # (B, T, P, A)


def generator_image(image_tokens: Tensor, keyframes: Tensor, num_frames: int) -> Tensor:
    """Image tokens of the keyframes: (B, T*Q, D), indices (B, K), to (B, K*Q, D)."""
    batch, _, width = image_tokens.shape
    per_frame = image_tokens.reshape(batch, num_frames, -1, width)  # (B, T, Q, D)
    return _select(per_frame, keyframes).flatten(1, 2)


def _audio_groups(audio_tokens: Tensor, num_frames: int, layout: str) -> Tensor:
    """Tokens grouped by the frame that takes them: (B, T, 1 + P, A), released (B, groups, P, A)."""
    batch, _, width = audio_tokens.shape
    patches = audio_tokens[:, 1:].reshape(batch, -1, num_frames, width)  # (B, P, T, A)
    patches = patches.transpose(1, 2)
    class_token = audio_tokens[:, :1, None].expand(-1, num_frames, -1, -1)  # (B, T, 1, A)
    tokens = torch.cat([class_token, patches], 2)
    if layout == "paper":
        return tokens
    if layout == "released":
        return tokens.reshape(batch, -1, patches.shape[2], width)
    raise ValueError(f"audio token layout is {layout!r}; it must be 'paper' or 'released'")


def _select(per_frame: Tensor, keyframes: Tensor) -> Tensor:
    """Rows `keyframes` (B, K) of `per_frame` (B, T, ...)."""
    return per_frame[torch.arange(per_frame.shape[0])[:, None], keyframes]
