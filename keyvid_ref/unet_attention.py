"""Transformers of the video U-Net over places and over frames, with released state-dict names.

Frames are batch: feature maps are (B F, C, H, W) outside the temporal layers.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Context(NamedTuple):
    """What the cross-attention attends to, one row per frame, context_dim wide."""

    text: Tensor  # (B F, text_tokens, D)
    image: Tensor  # (B F, image_tokens, D)
    audio: Tensor  # (B F, audio_tokens, D)


class UnitLength(nn.Module):
    """Vectors along the last axis as long as 1; a module, so that half precision can spare it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)


def repeat_rows(x: Tensor, rows: int) -> Tensor:
    """(n, ...) to (rows, ...), all of it again and again: what branches share, for each branch."""
    return x if len(x) == rows else x.repeat(rows // len(x), *[1] * (x.dim() - 1))


def frames_to_video(x: Tensor, num_frames: int) -> Tensor:
    """(B F, C, H, W) to (B, C, F, H, W)."""
    return x.unflatten(0, (-1, num_frames)).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head attention of (N, tokens, heads * d) projections, scale d^-1/2."""

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)  # (N, heads, tokens, d)

    product = _plain_attention if _trains_on_cpu() else F.scaled_dot_product_attention
    out = product(split(query), split(key), split(value))
    return out.transpose(1, 2).flatten(2)  # (N, tokens, heads * d)


def _trains_on_cpu() -> bool:
    """Whether to compute the same in another way that is faster there and only there."""
    return torch.is_autocast_enabled("cpu")


def _plain_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention in the dtype of its inputs: torch's own is slower in training with bfloat16."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return scores.softmax(dim=-1) @ value


class TemporalWindows:
    """Overlapping windows over the frames and the pyramid that fuses them (FreeNoise, 3.2).

    A window is made of whole strides, so that both directions are slices and sums of blocks of
    `stride` frames, without a gather by index.
    """

    def __init__(self, num_frames: int, window: int, stride: int) -> None:
        if (num_frames - window) % stride or window % stride:
            raise ValueError(
                f"{num_frames} frames are not covered by windows of {window} every {stride} frames"
            )
        self.stride, self.num_parts = stride, window // stride
        self.num_windows = (num_frames - window) // stride + 1
        pyramid = torch.tensor([min(i + 1, window - i) for i in range(window)])
        weights = pyramid.float().expand(1, self.num_windows, window)
        total = self._add_up(weights[..., None])[:, :, 0]  # (1, F)
        self.weights = (weights / self.split(total[..., None])[..., 0])[0, ..., None]

    def split(self, x: Tensor) -> Tensor:
        """(N, F, C) to (N windows, window, C)."""
        blocks = x.unflatten(1, (-1, self.stride))
        parts = [blocks[:, i : i + self.num_windows] for i in range(self.num_parts)]
        return torch.cat(parts, dim=2).flatten(0, 1)

    def fuse(self, x: Tensor) -> Tensor:
        """(N windows, window, C) to (N, F, C): the weighted mean over the windows of a frame."""
        windows = x.unflatten(0, (-1, self.num_windows))
        return self._add_up(windows * self.weights.to(x))

    def _add_up(self, windows: Tensor) -> Tensor:
        """(N, windows, window, C) to (N, F, C): the sum over the windows of a frame."""
        total, *others = windows.split(self.stride, dim=2)  # each (N, windows, stride, C)
        for i, part in enumerate(others, 1):  # the i-th stride of a window lies i strides further
            overlap = total[:, i:] + part[:, :-1]
            total = torch.cat([total[:, :i], overlap, part[:, -1:]], dim=1)
        return total.flatten(1, 2)


class SelfAttention(nn.Module):
    """Self-attention over (N, tokens, C), on windows of the tokens where some are given."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, windows: TemporalWindows | None = None) -> Tensor:
        query, key, value = self.to_q(x), self.to_k(x), self.to_v(x)
        if windows is None:
            out = attend(query, key, value, self.heads)
        else:
            split = windows.split
            out = windows.fuse(attend(split(query), split(key), split(value), self.heads))
        return self.to_out(out)


class CrossAttention(nn.Module):
    """One query for text, image and audio; the three results are summed (paper, section 3.2)."""

    def __init__(self, channels: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.beta = nn.Parameter(torch.zeros(()))
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_dim, channels, bias=False)
        self.to_v = nn.Linear(context_dim, channels, bias=False)
        self.to_k_ip = nn.Linear(context_dim, channels, bias=False)
        self.to_v_ip = nn.Linear(context_dim, channels, bias=False)
        self.to_k_ap = nn.Linear(context_dim, channels, bias=False)
        self.to_v_ap = nn.Linear(context_dim, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        query = self.to_q(x)
        text = attend(query, self.to_k(context.text), self.to_v(context.text), self.heads)
        image = attend(query, self.to_k_ip(context.image), self.to_v_ip(context.image), self.heads)
        audio = attend(query, self.to_k_ap(context.audio), self.to_v_ap(context.audio), self.heads)
        return self.to_out(text + image + (torch.tanh(self.beta) + 1) * audio)


class GEGLU(nn.Module):
    """Linear to twice the width; one half gates the other through GELU."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        # Two products: the halves of one are not contiguous, and take twice the memory to part.
        weight, bias = self.proj.weight.chunk(2), self.proj.bias.chunk(2)
        value, gate = (F.linear(x, *half) for half in zip(weight, bias, strict=True))
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU feed-forward, four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The identity stands where the released network has dropout: it keeps the key "net.2".
        self.net = nn.Sequential(
            GEGLU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class SpatialBlock(nn.Module):
    """Self-attention over the pixels of a frame, cross-attention, feed-forward; pre-norm.

    With more rows of context than of pixels, the latter are repeated once they have to differ.
    """

    def __init__(self, channels: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.attn1 = SelfAttention(channels, heads)
        self.attn2 = CrossAttention(channels, heads, context_dim)
        self.ff = FeedForward(channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = repeat_rows(x, len(context.text))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class TemporalBlock(nn.Module):
    """Two self-attentions over the frames of a pixel and a feed-forward; pre-norm, no positions."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attn1 = SelfAttention(channels, heads)
        self.attn2 = SelfAttention(channels, heads)
        self.ff = FeedForward(channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, windows: TemporalWindows | None) -> Tensor:
        x = x + self.attn1(self.norm1(x), windows)
        x = x + self.attn2(self.norm2(x), windows)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A `SpatialBlock` over the pixels of each frame, with residual."""

    def __init__(self, channels: int, heads: int, context_dim: int, norm_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(channels, heads, context_dim)])
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B F, H W, C)
        tokens = self.proj_in(tokens)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        tokens = self.proj_out(tokens)
        return repeat_rows(x, len(tokens)) + tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class TemporalTransformer(nn.Module):
    """A `TemporalBlock` over the frames at each pixel, with residual.

    `inner` may differ from `channels`; `conv_projections` stores the projections as 1x1
    convolutions, as the released `init_attn` does.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        inner: int,
        norm_groups: int,
        conv_projections: bool = False,
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, channels, eps=1e-6)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(inner, heads)])
        self.proj_in: nn.Linear | nn.Conv1d
        self.proj_out: nn.Linear | nn.Conv1d
        if conv_projections:
            self.proj_in = nn.Conv1d(channels, inner, 1)
            self.proj_out = nn.Conv1d(inner, channels, 1)
        else:
            self.proj_in = nn.Linear(channels, inner)
            self.proj_out = nn.Linear(inner, channels)

    def forward(self, x: Tensor, num_frames: int, windows: TemporalWindows | None) -> Tensor:
        video = frames_to_video(x, num_frames)  # (B, C, F, H, W)
        size = video.shape
        tokens = self.norm(video).permute(0, 3, 4, 2, 1).flatten(0, 2)  # (B H W, F, C)
        tokens = _project(self.proj_in, tokens)
        for block in self.transformer_blocks:
            tokens = block(tokens, windows)
        tokens = _project(self.proj_out, tokens)
        video = tokens.unflatten(0, (size[0], size[3], size[4]))  # (B, H, W, F, C)
        return x + video.permute(0, 3, 4, 1, 2).flatten(0, 1)


def _project(layer: nn.Linear | nn.Conv1d, tokens: Tensor) -> Tensor:
    """Apply a Linear, or a 1x1 Conv1d as the same matrix product, over the last axis."""
    return F.linear(tokens, layer.weight.flatten(1), layer.bias)
