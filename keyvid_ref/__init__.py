"""Reference implementation of KeyVID in PyTorch: plain, exact, slow."""

from keyvid_ref.audio_encoder import AudioEncoder, AudioEncoderConfig
from keyvid_ref.clip import ClipText, ClipTextConfig, ClipVision, ClipVisionConfig
from keyvid_ref.localizer import Localizer, LocalizerConfig
from keyvid_ref.pipeline import ReferencePipeline
from keyvid_ref.presets import PRESETS, Preset
from keyvid_ref.resampler import ImageResampler, ResamplerConfig
from keyvid_ref.unet import UNet, UNetConfig
from keyvid_ref.vae import VAE, VAEConfig
from keyvid_ref.weights import Networks, load_networks, random_networks

__all__ = [
    "PRESETS",
    "VAE",
    "AudioEncoder",
    "AudioEncoderConfig",
    "ClipText",
    "ClipTextConfig",
    "ClipVision",
    "ClipVisionConfig",
    "ImageResampler",
    "Localizer",
    "LocalizerConfig",
    "Networks",
    "Preset",
    "ReferencePipeline",
    "ResamplerConfig",
    "UNet",
    "UNetConfig",
    "VAEConfig",
    "load_networks",
    "random_networks",
]
