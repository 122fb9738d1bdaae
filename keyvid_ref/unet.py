"""The video U-Net of the keyframe generator and of the motion interpolator."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from keyvid.sampling import Temporal
from keyvid_ref.unet_attention import (
    Context,
    SpatialTransformer,
    TemporalTransformer,
    TemporalWindows,
    UnitLength,
    repeat_rows,
)
from keyvid_ref.unet_blocks import (
    Downsample,
    ResidualBlock,
    Upsample,
    run_layers,
    sinusoidal_embedding,
)

_INIT_ATTENTION_HEADS = 8


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the U-Net; the defaults are the published ones.

    `channel_mult` gives each level's width in units of `model_channels`, `attention_downsampling`
    the downsampling factors at which transformers stand. `text_tokens` and `image_tokens` (per
    frame) split the context. A FreeNoise window has `window` frames, the next one begins
    `window_stride` frames later.
    """

    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attention_downsampling: tuple[int, ...] = (1, 2, 4)
    head_channels: int = 64
    context_dim: int = 1024
    frame_index: bool = True
    latent_channels: int = 4
    norm_groups: int = 32
    text_tokens: int = 77
    image_tokens: int = 16
    audio_dim: int = 768
    window: int = 12
    window_stride: int = 6


class UNet(nn.Module):
    """Predicts the velocity v of the frames' latents (paper, section 3.2; released layout)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width, emb_dim = config.model_channels, 4 * config.model_channels

        def embedding_mlp() -> nn.Sequential:
            return nn.Sequential(nn.Linear(width, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim))

        self.time_embed = embedding_mlp()
        self.fps_embedding = embedding_mlp()
        if config.frame_index:
            self.frame_idx_embedding = embedding_mlp()
        self.audio_proj_2 = nn.Linear(config.audio_dim, config.context_dim)
        self.unit_length = UnitLength()

        self.input_blocks = nn.ModuleList(
            [nn.ModuleList([nn.Conv2d(2 * config.latent_channels, width, 3, padding=1)])]
        )
        self.init_attn = nn.ModuleList(
            [
                TemporalTransformer(
                    width,
                    _INIT_ATTENTION_HEADS,
                    _INIT_ATTENTION_HEADS * config.head_channels,
                    config.norm_groups,
                    conv_projections=True,
                )
            ]
        )
        skips = [width, *self._add_input_levels()]
        channels = skips[-1]
        self.middle_block = nn.ModuleList(
            [
                self._residual(channels, channels),
                *self._transformers(channels),
                self._residual(channels, channels),
            ]
        )
        self.output_blocks = nn.ModuleList()
        self._add_output_levels(skips)
        self.out = nn.Sequential(
            nn.GroupNorm(config.norm_groups, width * config.channel_mult[0]),
            nn.SiLU(),
            nn.Conv2d(width * config.channel_mult[0], config.latent_channels, 3, padding=1),
        )

    def _add_input_levels(self) -> list[int]:
        """Fill `input_blocks`; gives the channels of what each block passes on."""
        config = self.config
        channels, downsampling = config.model_channels, 1
        passed = []
        for level, mult in enumerate(config.channel_mult):
            for _ in range(config.num_res_blocks):
                block = [self._residual(channels, mult * config.model_channels)]
                channels = mult * config.model_channels
                block += self._transformers(channels, downsampling)
                self.input_blocks.append(nn.ModuleList(block))
                passed.append(channels)
            if level < len(config.channel_mult) - 1:
                self.input_blocks.append(nn.ModuleList([Downsample(channels)]))
                passed.append(channels)
                downsampling *= 2
        return passed

    def _add_output_levels(self, skips: list[int]) -> None:
        """Fill `output_blocks`, which take `skips` (channels) from the last to the first."""
        config = self.config
        channels, downsampling = skips[-1], 2 ** (len(config.channel_mult) - 1)
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            for i in range(config.num_res_blocks + 1):
                block = [self._residual(channels + skips.pop(), mult * config.model_channels)]
                channels = mult * config.model_channels
                block += self._transformers(channels, downsampling)
                if level > 0 and i == config.num_res_blocks:
                    block.append(Upsample(channels))
                    downsampling //= 2
                self.output_blocks.append(nn.ModuleList(block))

    def zero_residual_branches(self) -> None:
        """Start training from the identity: zero the last layer of each residual branch."""
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                last: list[nn.Module] = [module.out_layers[-1], module.temopral_conv.conv4[-1]]
            elif isinstance(module, SpatialTransformer | TemporalTransformer):
                last = [module.proj_out]
            else:
                continue
            for layer in last:
                for parameter in layer.parameters():
                    nn.init.zeros_(parameter)
        for parameter in self.out[-1].parameters():
            nn.init.zeros_(parameter)

    def _residual(self, in_channels: int, out_channels: int) -> nn.Module:
        config = self.config
        return ResidualBlock(
            in_channels, out_channels, 4 * config.model_channels, config.norm_groups
        )

    def _transformers(self, channels: int, downsampling: int | None = None) -> list[nn.Module]:
        config = self.config
        if downsampling is not None and downsampling not in config.attention_downsampling:
            return []
        heads = channels // config.head_channels
        return [
            SpatialTransformer(channels, heads, config.context_dim, config.norm_groups),
            TemporalTransformer(channels, heads, channels, config.norm_groups),
        ]

    def forward(
        self,
        latent: Tensor,
        timestep: Tensor,
        context: Tensor,
        audio: Tensor,
        fps: Tensor,
        frame_index: Tensor | None = None,
        temporal: Temporal = "full",
    ) -> Tensor:
        """Predict the velocity.

        B is the number of clips, or of branches of guidance of one clip (n = 1): branches differ
        in what they are told, so that all before the first cross-attention is computed once.

        Args:
            latent: (n, 2 C, F, H, W) noisy latents, then the concatenated condition; n is B or 1.
            timestep: (n,) diffusion timestep, 0..999.
            context: (B, text_tokens + F image_tokens, context_dim) text, then each frame's image.
            audio: (B, F, N, audio_dim) audio tokens of each frame, any N.
            fps: (n,) frames per second of the F frames.
            frame_index: (n, F) index of each frame in the clip; the generator only.
            temporal: what the temporal self-attentions see: all frames, or FreeNoise windows.
        Returns:
            (B, C, F, H, W).
        """
        config = self.config
        batch, num_frames = context.shape[0], latent.shape[2]
        embedding = self._embed(timestep, fps, frame_index, num_frames)  # (n F, emb_dim)
        frame_context = self._split_context(context, audio)
        windows = None
        if temporal == "windows" and num_frames > config.window:
            windows = TemporalWindows(num_frames, config.window, config.window_stride)

        h = latent.transpose(1, 2).flatten(0, 1)  # (n F, 2 C, H, W)
        state = (embedding, frame_context, num_frames, windows)
        skips = []
        for i, block in enumerate(self.input_blocks):
            h = run_layers(block, h, *state)
            if i == 0:
                h = run_layers(self.init_attn, h, *state)
            skips.append(h)
        h = run_layers(self.middle_block, h, *state)
        for block in self.output_blocks:
            skip = repeat_rows(skips.pop(), len(h))
            h = run_layers(block, torch.cat([h, skip], dim=1), *state)
        return self.out(h).unflatten(0, (batch, num_frames)).transpose(1, 2)

    def _embed(
        self, timestep: Tensor, fps: Tensor, frame_index: Tensor | None, num_frames: int
    ) -> Tensor:
        """Sum of the embeddings of timestep, fps and frame index, (n F, emb_dim)."""
        width, dtype = self.config.model_channels, self.audio_proj_2.weight.dtype

        def sinusoids(values: Tensor) -> Tensor:
            return sinusoidal_embedding(values, width).to(dtype)

        clip = self.time_embed(sinusoids(timestep)) + self.fps_embedding(sinusoids(fps))
        embedding = clip[:, None].expand(-1, num_frames, -1).flatten(0, 1)
        if self.config.frame_index:
            if frame_index is None:
                raise ValueError("this U-Net embeds the frame index, but frame_index is None")
            embedding = embedding + self.frame_idx_embedding(sinusoids(frame_index.flatten()))
        return embedding

    def _split_context(self, context: Tensor, audio: Tensor) -> Context:
        """One row of text, image and audio tokens per frame; audio projected and normalised."""
        config, num_frames = self.config, audio.shape[1]
        text = context[:, : config.text_tokens]
        image = context[:, config.text_tokens :]
        return Context(
            text=text[:, None].expand(-1, num_frames, -1, -1).flatten(0, 1),
            image=image.unflatten(1, (num_frames, config.image_tokens)).flatten(0, 1),
            audio=self.unit_length(self.audio_proj_2(audio)).flatten(0, 1),
        )
