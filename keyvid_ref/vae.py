"""The KL autoencoder of Stable Diffusion, with two options that make a small one trainable."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_START_LOG_VARIANCE = -6.0


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of the autoencoder; the defaults are the published ones.

    `channel_mult` gives each level's width in units of `channels`. With `patch_size` p > 1, p x p
    pixels are folded into channels before the first convolution and unfolded after the last.
    `linear_shortcut` adds a linear path around encoder and decoder: where channels are few, group
    normalisation would take the mean colour with it.
    """

    channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    latent_channels: int = 4
    norm_groups: int = 32
    patch_size: int = 1
    linear_shortcut: bool = False

    @property
    def downsampling(self) -> int:
        """Pixels per latent along each axis."""
        return self.patch_size << (len(self.channel_mult) - 1)

    @property
    def patch_channels(self) -> int:
        """Colours times the pixels of a patch."""
        return 3 * self.patch_size**2


class VAE(nn.Module):
    """Image to moments of the latent posterior and back; latents are not scaled here."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        latent = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 1)
        if config.linear_shortcut:
            pixels = 3 * config.downsampling**2  # colours times the pixels of a latent
            self.encoder_shortcut = nn.Conv2d(pixels, 2 * latent, 1)
            self.decoder_shortcut = nn.Conv2d(latent, pixels, 1)

    def encode_moments(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to (N, 2 C, h, w): mean, then log-variance."""
        features = self.encoder(F.pixel_unshuffle(image, self.config.patch_size))
        if self.config.linear_shortcut:
            pixels = F.pixel_unshuffle(image, self.config.downsampling)
            features = features + self.encoder_shortcut(pixels)
        return self.quant_conv(features)

    def decode(self, latent: Tensor) -> Tensor:
        """(N, C, h, w) to (N, 3, H, W), about [-1, 1]."""
        latent = self.post_quant_conv(latent)
        image = F.pixel_shuffle(self.decoder(latent), self.config.patch_size)
        if self.config.linear_shortcut:
            pixels = self.decoder_shortcut(latent)
            image = image + F.pixel_shuffle(pixels, self.config.downsampling)
        return image

    @torch.no_grad()
    def start_from_principal_components(self, image: Tensor) -> None:
        """Make the linear shortcuts the principal components of `image`, and all else silent.

        Training then starts from the best linear autoencoder, which keeps colours and places.

        Args:
            image: (N, 3, H, W) in [-1, 1], some thousand squares of `downsampling` pixels.
        """
        assert self.config.linear_shortcut
        channels = self.config.latent_channels
        squares = F.pixel_unshuffle(image, self.config.downsampling).transpose(0, 1).flatten(1)
        mean = squares.mean(dim=1)
        components = torch.linalg.eigh(torch.cov(squares))[1][:, -channels:].flip(1)  # (P, C)
        for layer in (self.encoder.conv_out, self.decoder.conv_out, self.encoder_shortcut):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(_bias(layer))
        self.encoder_shortcut.weight[:channels] = components.T[:, :, None, None]
        _bias(self.encoder_shortcut)[:channels] = -components.T @ mean
        _bias(self.encoder_shortcut)[channels:] = _START_LOG_VARIANCE
        self.decoder_shortcut.weight.copy_(components[:, :, None, None])
        _bias(self.decoder_shortcut).copy_(mean)
        for layer in (self.quant_conv, self.post_quant_conv):
            nn.init.dirac_(layer.weight)
            nn.init.zeros_(_bias(layer))

    @torch.no_grad()
    def fold_latent_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Make latents `(latent - mean) / std` of what they were, decoding unchanged.

        Args:
            mean, std: (C,) one number for each latent channel.
        """
        channels = self.config.latent_channels
        weight, bias = self.quant_conv.weight, _bias(self.quant_conv)
        weight[:channels] /= std[:, None, None, None]
        bias[:channels] = (bias[:channels] - mean) / std
        bias[channels:] -= 2 * std.log()  # the second half is log-variance
        weight, bias = self.post_quant_conv.weight, _bias(self.post_quant_conv)
        bias += weight[:, :, 0, 0] @ mean
        weight *= std[:, None, None]


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


class Encoder(nn.Module):
    """Patches to features of the moments."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        groups = config.norm_groups
        widths = [config.channels * mult for mult in config.channel_mult]
        self.conv_in = nn.Conv2d(config.patch_channels, config.channels, 3, padding=1)
        self.down = nn.ModuleList()
        channels = config.channels
        for level, width in enumerate(widths):
            down = nn.Module()
            down.block = _blocks(channels, width, config.num_res_blocks, groups)
            if level < len(widths) - 1:
                down.downsample = Downsample(width)
            self.down.append(down)
            channels = width
        self.mid = Middle(channels, groups)
        self.norm_out = _norm(channels, groups)
        self.conv_out = nn.Conv2d(channels, 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for down in self.down:
            for block in down.block:  # type: ignore[union-attr]
                h = block(h)
            if hasattr(down, "downsample"):
                h = down.downsample(h)  # type: ignore[operator]
        moments: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(h))))
        return moments


class Decoder(nn.Module):
    """Latents to patches. `up` counts levels from the pixels, so it runs backwards."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        groups = config.norm_groups
        widths = [config.channels * mult for mult in config.channel_mult]
        channels = widths[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, channels, 3, padding=1)
        self.mid = Middle(channels, groups)
        ups = []
        for level in reversed(range(len(widths))):
            up = nn.Module()
            up.block = _blocks(channels, widths[level], config.num_res_blocks + 1, groups)
            channels = widths[level]
            if level > 0:
                up.upsample = Upsample(channels)
            ups.append(up)
        self.up = nn.ModuleList(reversed(ups))
        self.norm_out = _norm(channels, groups)
        self.conv_out = nn.Conv2d(channels, config.patch_channels, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        h = self.mid(self.conv_in(latent))
        for up in reversed(self.up):
            for block in up.block:  # type: ignore[union-attr]
                h = block(h)
            if hasattr(up, "upsample"):
                h = up.upsample(h)  # type: ignore[operator]
        patches: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return patches


class Middle(nn.Module):
    """Residual block, attention over the pixels, residual block."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups)
        self.attn_1 = PixelAttention(channels, groups)
        self.block_2 = ResidualBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return h


class ResidualBlock(nn.Module):
    """Twice norm, SiLU, convolution, with a 1x1 shortcut where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(in_channels, groups)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = _norm(out_channels, groups)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        out: Tensor = h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)
        return out


class PixelAttention(nn.Module):
    """Self-attention over all pixels with one head, with residual."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = _norm(channels, groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        query, key, value = (
            projection(h).flatten(2).transpose(1, 2)[:, None]  # (N, 1, H W, C)
            for projection in (self.q, self.k, self.v)
        )
        out = F.scaled_dot_product_attention(query, key, value)[:, 0]
        projected: Tensor = self.proj_out(out.transpose(1, 2).unflatten(2, x.shape[2:]))
        return x + projected


class Downsample(nn.Module):
    """Halve the size; the padding is on the right and the bottom only (released code)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return h


class Upsample(nn.Module):
    """Double the size by repetition, then convolve."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return h


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


def _blocks(in_channels: int, out_channels: int, count: int, groups: int) -> nn.ModuleList:
    """`count` residual blocks, the first of which changes the width."""
    widths = [in_channels] + [out_channels] * (count - 1)
    return nn.ModuleList(ResidualBlock(width, out_channels, groups) for width in widths)
