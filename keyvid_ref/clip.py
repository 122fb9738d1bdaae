"""The two encoders of CLIP, as far as KeyVID uses them (OpenCLIP names)."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from keyvid_ref.transformer import SelfAttention


@dataclass(frozen=True)
class ClipTextConfig:
    """Sizes of the text encoder; the defaults are those of ViT-H/14.

    `embed_dim` is the width of the stored projection, which is never used here.
    """

    vocab_size: int = 49408
    context_length: int = 77
    width: int = 1024
    layers: int = 24
    heads: int = 16
    embed_dim: int = 1024


@dataclass(frozen=True)
class ClipVisionConfig:
    """Sizes of the image encoder; the defaults are those of ViT-H/14.

    `embed_dim` is the width of the stored projection, which is never used here.
    """

    image_size: int = 224
    patch_size: int = 14
    width: int = 1280
    layers: int = 32
    heads: int = 16
    embed_dim: int = 1024

    @property
    def num_tokens(self) -> int:
        """Tokens of an image: class token and patches."""
        return 1 + (self.image_size // self.patch_size) ** 2


class ClipText(nn.Module):
    """Tokens of a prompt to features: all blocks but the last, then the final norm."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.context_length, width))
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, config.embed_dim))
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.transformer = Transformer(width, config.layers, config.heads, causal=True)
        self.ln_final = nn.LayerNorm(width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, context_length) int64 to (B, context_length, width)."""
        x = self.token_embedding(tokens) + self.positional_embedding
        for block in self.transformer.resblocks[:-1]:  # the release takes the penultimate layer
            x = block(x)
        features: Tensor = self.ln_final(x)
        return features


class ClipVision(nn.Module):
    """Pixels to the tokens after the last block, without the final norm and projection."""

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        self.config = config
        width, scale = config.width, config.width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(config.num_tokens, width))
        self.proj = nn.Parameter(scale * torch.randn(width, config.embed_dim))
        self.conv1 = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, config.layers, config.heads)
        self.ln_post = nn.LayerNorm(width)  # stored, never used here

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) CLIP-normalised to (B, 1 + patches, width), class token first."""
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)  # (B, patches, width)
        class_token = self.class_embedding.expand(len(pixels), 1, -1)
        x = self.ln_pre(torch.cat([class_token, patches], dim=1) + self.positional_embedding)
        for block in self.transformer.resblocks:
            x = block(x)
        return x


class Transformer(nn.Module):
    """Holder of the blocks, for their names."""

    def __init__(self, width: int, layers: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, causal) for _ in range(layers))


class Block(nn.Module):
    """Self-attention and MLP; pre-norm."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, heads, causal=causal)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, 4 * width),
                gelu=nn.GELU(),
                c_proj=nn.Linear(4 * width, width),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out
