"""Presets: the published size and the tiny one, as numbers for the same code."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from keyvid.sampling import Changes, Layout, Quality, Sampling, UNetSampling, UNetSettings
from keyvid_ref.audio_encoder import AudioEncoderConfig
from keyvid_ref.clip import ClipTextConfig, ClipVisionConfig
from keyvid_ref.localizer import LocalizerConfig
from keyvid_ref.resampler import ResamplerConfig
from keyvid_ref.unet import UNetConfig
from keyvid_ref.vae import VAEConfig


@dataclass(frozen=True)
class Preset:
    """Everything that distinguishes one size of the model from another.

    `fps` and `keyframe_fps` are the frame rates that the interpolator and the generator are told.
    `layout` is the audio token layout ("paper" or "released"), `latent_sample` whether the image
    latent is a sample of the posterior (release) or its mean. `qualities` says what
    `Settings(quality=...)` changes of `sampling`. Weights that were trained on little know the
    words `prompts` alone, and pictures that their autoencoder keeps at `picture_psnr_db`.
    A preset with `judges` holds the networks of a judge in place of those that make clips; of the
    sizes it has height, width, frames and fps, and `AudioEncoderConfig`'s of the mel spectrogram.
    """

    name: str
    height: int = 320
    width: int = 512
    frames: int = 48
    keyframes: int = 12
    fps: int = 24
    keyframe_fps: int = 6
    layout: Layout = "released"
    latent_scale: float = 0.18215
    latent_sample: bool = True
    dynamic_rescale: float = 0.7
    unet: UNetConfig = UNetConfig()
    vae: VAEConfig = VAEConfig()
    clip_text: ClipTextConfig = ClipTextConfig()
    clip_vision: ClipVisionConfig = ClipVisionConfig()
    resampler: ResamplerConfig = ResamplerConfig()
    audio: AudioEncoderConfig = AudioEncoderConfig()
    localizer: LocalizerConfig = LocalizerConfig()
    sampling: Sampling = Sampling()
    qualities: Mapping[Quality, Changes] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()
    picture_psnr_db: float = 0.0
    judges: bool = False

    def unet_config(self, stage: str) -> UNetConfig:
        """Configuration of the U-Net of `stage`: only the generator embeds the frame index."""
        return replace(self.unet, frame_index=stage == "generator")


# Steps of the released inference script; guidance scales suit a model.
_RELEASED = Changes(steps=90, spacing=1.0, solver="ddim", eta=1.0)

_TINY_SAMPLING = UNetSampling(
    steps=6,
    spacing=1.8,
    solver="dpm",
    guidance_image=1.0,
    guidance_text=1.0,
    guidance_audio=1.5,
)
_TINY_AUDIO = AudioEncoderConfig(width=96, layers=4, heads=4, stride=(16, 4), embed_dim=8)

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="keyvid-512",
            sampling=Sampling(
                UNetSampling(steps=16, spacing=1.5, solver="dpm"),
                UNetSampling(steps=8, spacing=1.5, solver="dpm", guidance_audio=9.0),
            ),
            qualities={
                "exact": _RELEASED,
                "fast": Changes(
                    steps=12,
                    guidance_until=400,
                    interpolator=UNetSettings(steps=6, guidance_until=500),
                ),
            },
        ),
        Preset(
            name="tiny",
            height=96,
            width=160,
            layout="paper",
            latent_scale=1.0,
            latent_sample=False,
            unet=UNetConfig(
                model_channels=48,
                channel_mult=(1, 2),
                num_res_blocks=1,
                attention_downsampling=(1, 2),
                head_channels=16,
                context_dim=128,
                latent_channels=16,
                norm_groups=8,
                text_tokens=16,
                image_tokens=4,
                audio_dim=96,
            ),
            vae=VAEConfig(
                channels=64,
                channel_mult=(1, 2),
                latent_channels=16,
                norm_groups=8,
                patch_size=4,
                linear_shortcut=True,
            ),
            clip_text=ClipTextConfig(
                vocab_size=512, context_length=16, width=128, layers=3, heads=4, embed_dim=64
            ),
            clip_vision=ClipVisionConfig(image_size=56, width=96, layers=4, heads=4, embed_dim=64),
            resampler=ResamplerConfig(
                width=96,
                depth=2,
                heads=4,
                head_channels=24,
                queries=4,
                input_dim=96,
                output_dim=128,
            ),
            audio=_TINY_AUDIO,
            localizer=LocalizerConfig(
                audio=replace(_TINY_AUDIO, mel_frames=198, class_token=False)
            ),
            sampling=Sampling(_TINY_SAMPLING, replace(_TINY_SAMPLING, steps=3, guidance_audio=1.0)),
            qualities={
                "exact": replace(_RELEASED, interpolator=UNetSettings(guidance_audio=2.5)),
                "fast": Changes(steps=4, interpolator=UNetSettings(steps=2)),
            },
            prompts=("hammer", "ball", "drum", "shaker", "mouth", "flower"),
            picture_psnr_db=31.0,
        ),
    )
}

# The published judge behind RelSync, see `keyvid_ref.avsync`.
AVSYNC = Preset(name="avsync", height=224, width=224, frames=12, fps=6, keyframe_fps=6, judges=True)
