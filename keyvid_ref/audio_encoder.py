"""The audio trunk of ImageBind: a vision transformer over the mel spectrogram."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keyvid_ref.transformer import SelfAttention

_NORM_EPS = 1e-6


@dataclass(frozen=True)
class AudioEncoderConfig:
    """Sizes of the audio trunk; the defaults are the published ones.

    `stride` is that of the patches over (mel bins, mel frames). `embed_dim` is the width of the
    released projection head, whose weights are stored but never used here.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    patch_size: int = 16
    stride: tuple[int, int] = (10, 4)
    mel_bins: int = 128
    mel_frames: int = 204
    class_token: bool = True
    embed_dim: int = 1024

    @property
    def frequency_patches(self) -> int:
        """Patches along the mel bins."""
        return (self.mel_bins - self.patch_size) // self.stride[0] + 1

    @property
    def time_patches(self) -> int:
        """Patches along the mel frames."""
        return (self.mel_frames - self.patch_size) // self.stride[1] + 1

    @property
    def num_tokens(self) -> int:
        """Tokens of a spectrogram, the class token included."""
        return self.frequency_patches * self.time_patches + self.class_token


class AudioEncoder(nn.Module):
    """Mel spectrogram to tokens: class token, then patches, frequency major."""

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.modality_preprocessors = nn.ModuleDict({"audio": Preprocessor(config)})
        self.modality_trunks = nn.ModuleDict({"audio": Trunk(config)})
        # The released checkpoint holds the head of the contrastive training.
        head = nn.Sequential(
            nn.LayerNorm(width, eps=_NORM_EPS),
            nn.Identity(),
            nn.Linear(width, config.embed_dim, bias=False),
        )
        self.modality_heads = nn.ModuleDict({"audio": head})
        self.modality_postprocessors = nn.ModuleDict(
            {"audio": nn.Sequential(nn.Identity(), LogitScale())}
        )

    def forward(self, mel: Tensor) -> Tensor:
        """(B, 1, mel_bins, mel_frames) normalised log mel to (B, num_tokens, width)."""
        tokens: Tensor = self.modality_trunks["audio"](self.modality_preprocessors["audio"](mel))
        return tokens


class Preprocessor(nn.Module):
    """Patches, normalised, with the class token and positions."""

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        if config.class_token:
            self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, config.width))
        self.rgbt_stem = nn.Module()
        self.rgbt_stem.proj = nn.Conv2d(
            1, config.width, config.patch_size, config.stride, bias=False
        )
        self.rgbt_stem.norm_layer = nn.LayerNorm(config.width)
        self.pos_embedding_helper = nn.Module()
        self.pos_embedding_helper.pos_embed = nn.Parameter(
            0.02 * torch.randn(1, config.num_tokens, config.width)
        )

    def forward(self, mel: Tensor) -> Tensor:
        patches = self.rgbt_stem.proj(mel).flatten(2).transpose(1, 2)  # type: ignore[operator]
        tokens = self.rgbt_stem.norm_layer(patches)  # type: ignore[operator]
        if hasattr(self, "cls_token"):
            tokens = torch.cat([self.cls_token.expand(len(mel), -1, -1), tokens], dim=1)
        positioned: Tensor = tokens + self.pos_embedding_helper.pos_embed
        return positioned


class Trunk(nn.Module):
    """The transformer blocks; no final norm."""

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(Block(config.width, config.heads) for _ in range(config.layers))
        )

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.blocks(tokens)
        return out


class Block(nn.Module):
    """Self-attention with one learned extra key and value, then an MLP; pre-norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.attn = SelfAttention(width, heads, bias_kv=True)
        self.norm_2 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(width, 4 * width), act=nn.GELU(), fc2=nn.Linear(4 * width, width)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm_1(x))
        mlp: Tensor = self.mlp(self.norm_2(x))
        return x + mlp


class LogitScale(nn.Module):
    """Holder of a stored scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_logit_scale", torch.zeros(()))


def resize_position_table(
    stored: Tensor, stored_grid: tuple[int, int], grid: tuple[int, int]
) -> Tensor:
    """Resize a stored position table, class token first, to another grid (released code).

    Args:
        stored: (1, 1 + f t, C), for `stored_grid` = (f, t) frequency and time patches.
    Returns:
        (1, 1 + f' t', C), for `grid` = (f', t').
    """
    class_token, patches = stored[:, :1], stored[:, 1:]
    image = patches.transpose(1, 2).unflatten(2, stored_grid)  # (1, C, f, t)
    image = F.interpolate(image, size=grid, mode="bilinear")
    return torch.cat([class_token, image.flatten(2).transpose(1, 2)], dim=1)
