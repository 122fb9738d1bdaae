"""Conditions: which tokens and latents reach which frame of a U-Net call."""

from dataclasses import dataclass

import numpy as np

# What each guidance branch is told of (image, text, audio): 0 nothing, 1 the condition.
BRANCHES = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]])


@dataclass(frozen=True)
class Conditions:
    """Encoded conditions of a clip of T frames; row 0 stands for nothing, row 1 for what is given.

    Attributes:
        image: (2, T * Q, D) resampler tokens, Q for each frame.
        text: (2, N, D) text tokens.
        audio: (2, 1 + P * T, A) audio tokens: class token, then patches, frequency major.
    """

    image: np.ndarray
    text: np.ndarray
    audio: np.ndarray

    def per_branch(
        self, branches: np.ndarray, num_frames: int, layout: str, keyframes: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of one U-Net call.

        Args:
            branches: (B,) rows of `BRANCHES` to run.
            num_frames: T.
            layout: of the audio tokens, "paper" or "released".
            keyframes: (F,) frames of the call, or None for all T.
        Returns:
            context (B, N + F * Q, D), text then image tokens, and audio (B, F, n, A).
        """
        images = np.stack([image_tokens(rows, num_frames, keyframes) for rows in self.image])
        sounds = np.stack(
            [audio_tokens(rows, num_frames, layout, keyframes) for rows in self.audio]
        )
        image, text, audio = BRANCHES[branches].T
        return np.concatenate([self.text[text], images[image]], axis=1), sounds[audio]


def image_tokens(tokens: np.ndarray, num_frames: int, keyframes: np.ndarray | None) -> np.ndarray:
    """Resampler tokens of the frames of a U-Net call: (T * Q, D) -> (F * Q, D)."""
    if keyframes is None:
        return tokens
    width = tokens.shape[1]
    kept = tokens.reshape(num_frames, -1, width)[keyframes]  # (F, Q, D)
    return np.reshape(kept, (-1, width))


def audio_tokens(
    tokens: np.ndarray, num_frames: int, layout: str, keyframes: np.ndarray | None
) -> np.ndarray:
    """Audio tokens of the frames of a U-Net call.

    Layout "paper": a frame hears the class token and the P frequency patches of its own time.
    Layout "released": the tokens of all frames in a row are cut into groups of P instead of 1 + P.
    Keyframe t takes group t, so that late ones hear earlier sound; the interpolator resizes the
    groups to the frames, linearly. The released weights were trained with that.

    Args:
        tokens: (1 + P * T, A): class token, then patches, frequency major.
        keyframes: (F,) frames of the call, or None for all T.
    Returns:
        (F, 1 + P, A) in the paper's layout, (F, P, A) in the released one.
    """
    width = tokens.shape[1]
    patches = tokens[1:].reshape(-1, num_frames, width).transpose(1, 0, 2)  # (T, P, A)
    class_token = np.broadcast_to(tokens[:1], (num_frames, 1, width))
    groups = np.concatenate([class_token, patches], axis=1)  # (T, 1 + P, A)
    if layout == "released":
        groups = groups.reshape(-1, patches.shape[1], width)  # (T + T / P, P, A)
        if keyframes is None:
            return _resize(groups, num_frames)
    return groups if keyframes is None else np.take(groups, keyframes, axis=0)


def repeated_first_frame(latent: np.ndarray, num_keyframes: int) -> np.ndarray:
    """Latent condition of the generator: (1, C, H, W) at each keyframe, (1, C, K, H, W)."""
    return np.repeat(latent[:, :, np.newaxis], num_keyframes, axis=2)


def scattered_keyframes(latents: np.ndarray, keyframes: np.ndarray, num_frames: int) -> np.ndarray:
    """Latent condition of the interpolator: (1, C, T, H, W), zero but at the keyframes.

    Args:
        latents: (1, C, K, H, W) keyframe latents.
        keyframes: (K,) their frame numbers.
    """
    batch, channels, _, height, width = latents.shape
    condition = np.zeros((batch, channels, num_frames, height, width), np.float32)
    condition[:, :, keyframes] = latents
    return condition


def _resize(groups: np.ndarray, length: int) -> np.ndarray:
    """Linear interpolation along the first axis; sample centres are aligned, not the ends."""
    position = (np.arange(length) + 0.5) * len(groups) / length - 0.5
    first = np.floor(position).astype(np.int64)
    weight = (position - first).astype(np.float32)[:, np.newaxis, np.newaxis]
    last = len(groups) - 1
    before, after = groups[first.clip(0, last)], groups[(first + 1).clip(0, last)]
    return np.asarray(before * (1 - weight) + after * weight)
