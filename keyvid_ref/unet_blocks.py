"""Layers of the video U-Net, under the names of the released state dict.

Frames are batch: feature maps are (B F, C, H, W) everywhere except inside the temporal layers.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keyvid_ref.unet_attention import (
    Context,
    SpatialTransformer,
    TemporalTransformer,
    TemporalWindows,
    frames_to_video,
    repeat_rows,
)


def sinusoidal_embedding(values: Tensor, dim: int) -> Tensor:
    """(N,) numbers to (N, dim) float32 sinusoids, cosine half first (released code)."""
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=values.device) / half
    angles = values.float()[:, None] * torch.exp(-math.log(10000) * exponents)
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


class FrameConv(nn.Conv3d):
    """A convolution over three frames of (B, C, F, H W), computed as one of images.

    Engines are better at those than at convolutions of videos.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.flatten(3), self.bias, padding=(1, 0))


class TemporalConv(nn.Module):
    """Four times norm, SiLU and a convolution over three frames, with residual."""

    def __init__(self, channels: int, norm_groups: int) -> None:
        super().__init__()

        def layer(with_dropout_slot: bool) -> nn.Sequential:
            # The identity stands where the released network has dropout: it keeps the key "3".
            slot = [nn.Identity()] if with_dropout_slot else []
            norm = nn.GroupNorm(norm_groups, channels)
            return nn.Sequential(norm, nn.SiLU(), *slot, FrameConv(channels))

        self.conv1 = layer(with_dropout_slot=False)
        self.conv2 = layer(with_dropout_slot=True)
        self.conv3 = layer(with_dropout_slot=True)
        self.conv4 = layer(with_dropout_slot=True)

    def forward(self, video: Tensor) -> Tensor:
        pixels = video.flatten(3)  # (B, C, F, H W)
        pixels = pixels + self.conv4(self.conv3(self.conv2(self.conv1(pixels))))
        return pixels.unflatten(3, video.shape[3:])


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with the embedding added between them, then the temporal block."""

    def __init__(self, in_channels: int, out_channels: int, emb_dim: int, norm_groups: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(norm_groups, in_channels),
            nn.SiLU(),
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_dim, out_channels))
        # The identity stands where the released network has dropout: it keeps the key "3".
        self.out_layers = nn.Sequential(
            nn.GroupNorm(norm_groups, out_channels),
            nn.SiLU(),
            nn.Identity(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.skip_connection: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.skip_connection = nn.Conv2d(in_channels, out_channels, 1)
        self.temopral_conv = TemporalConv(out_channels, norm_groups)

    def forward(self, x: Tensor, embedding: Tensor, num_frames: int) -> Tensor:
        embedding = repeat_rows(self.emb_layers(embedding), len(x))
        h = self.in_layers(x) + embedding[:, :, None, None]
        h = self.skip_connection(x) + self.out_layers(h)
        video = self.temopral_conv(frames_to_video(h, num_frames))
        return video.transpose(1, 2).flatten(0, 1)


class Downsample(nn.Module):
    """Halve the size with a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Double the size by repetition, then convolve."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def run_layers(
    block: nn.Module,
    x: Tensor,
    embedding: Tensor,
    context: Context,
    num_frames: int,
    windows: TemporalWindows | None,
) -> Tensor:
    """Run the layers of a block of the U-Net, giving each what it takes."""
    for layer in block.children():
        if isinstance(layer, ResidualBlock):
            x = layer(x, embedding, num_frames)
        elif isinstance(layer, SpatialTransformer):
            x = layer(x, context)
        elif isinstance(layer, TemporalTransformer):
            x = layer(x, num_frames, windows)
        else:
            x = layer(x)
    return x
