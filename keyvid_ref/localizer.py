"""The localizer: how much should move in each frame, heard in the sound (paper, section 3.1)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keyvid_ref.audio_encoder import AudioEncoder, AudioEncoderConfig


def _released_trunk() -> AudioEncoderConfig:
    return AudioEncoderConfig(stride=(4, 4), mel_frames=198, class_token=False)


@dataclass(frozen=True)
class LocalizerConfig:
    """Sizes of the localizer; the defaults are the published ones."""

    audio: AudioEncoderConfig = field(default_factory=_released_trunk)
    frames: int = 48
    hidden: int = 16


class Localizer(nn.Module):
    """Motion score of each frame from the mel spectrogram."""

    def __init__(self, config: LocalizerConfig) -> None:
        super().__init__()
        self.config = config
        # The released checkpoint holds these two; nothing reads them.
        self.ada_weight = nn.Parameter(torch.ones(1))
        self.ada_bias = nn.Parameter(torch.zeros(1))
        self.imagebindMoodel = AudioEncoder(config.audio)  # spelt so in the released checkpoint
        self.linear1 = nn.Linear(config.audio.num_tokens, config.frames)
        self.linear2 = nn.Linear(config.audio.width, config.hidden)
        self.linear3 = nn.Linear(config.frames * config.hidden, config.frames)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, 1, mel_bins, mel_frames) normalised log mel to (B, frames) scores, any scale."""
        tokens = self.imagebindMoodel(mel)
        frames = self.linear1(tokens.transpose(1, 2))  # (B, width, frames)
        hidden = self.linear2(F.relu(frames).transpose(1, 2))  # (B, frames, hidden)
        scores: Tensor = self.linear3(F.relu(hidden.flatten(1))) + frames.mean(dim=1)
        return scores
