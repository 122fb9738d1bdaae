"""The image resampler: CLIP's image tokens to a few context tokens for each frame."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ResamplerConfig:
    """Sizes of the resampler; the defaults are the published ones. `queries` is per frame."""

    width: int = 1024
    depth: int = 4
    heads: int = 12
    head_channels: int = 64
    queries: int = 16
    frames: int = 48
    input_dim: int = 1280
    output_dim: int = 1024
    mlp_ratio: int = 4


class ImageResampler(nn.Module):
    """A perceiver: learned queries of every frame attend to the image tokens."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        num_queries = config.frames * config.queries
        self.latents = nn.Parameter(width**-0.5 * torch.randn(1, num_queries, width))
        self.proj_in = nn.Linear(config.input_dim, width)
        self.proj_out = nn.Linear(width, config.output_dim)
        self.norm_out = nn.LayerNorm(config.output_dim)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(config), _feed_forward(width, config.mlp_ratio)])
            for _ in range(config.depth)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, input_dim) image tokens to (B, frames * queries, output_dim), frame major."""
        x = self.proj_in(tokens)
        latents = self.latents.expand(len(tokens), -1, -1)
        for layer in self.layers:
            attention, feed_forward = layer.children()
            latents = latents + attention(x, latents)
            latents = latents + feed_forward(latents)
        context: Tensor = self.norm_out(self.proj_out(latents))
        return context


class PerceiverAttention(nn.Module):
    """Latents attend to the image tokens and to each other."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        width, inner = config.width, config.heads * config.head_channels
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        x, latents = self.norm1(x), self.norm2(latents)
        key, value = self.to_kv(torch.cat([x, latents], dim=1)).chunk(2, dim=-1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, d)
            for part in (self.to_q(latents), key, value)
        )
        out = F.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.to_out(out.transpose(1, 2).flatten(2))
        return projected


def _feed_forward(width: int, ratio: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, ratio * width, bias=False),
        nn.GELU(),
        nn.Linear(ratio * width, width, bias=False),
    )
