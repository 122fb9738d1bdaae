"""Train every network of a preset on the synthetic world: `python -m keyvid_ref.train`.

The parts build on one another: autoencoder, text and image encoders, audio encoder and localizer
first; then the clips are encoded once and the two U-Nets learn from the encodings, the
interpolator first on short runs of frames, then on whole clips. Each finished part leaves
`NAME.safetensors` in the output folder, and a run that is started again goes on where it stopped.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from keyvid_ref import train_encoders as encoders
from keyvid_ref import train_unet as unets
from keyvid_ref import world
from keyvid_ref.presets import PRESETS, Preset
from keyvid_ref.train_data import Clips, EncodedClips, encode_clips, render_clips
from keyvid_ref.train_loop import Recipe, fit
from keyvid_ref.unet import UNet
from keyvid_ref.weights import Networks, build_networks, save_network
from keyvid_ref.world_text import make_tokenizer

_log = logging.getLogger(__name__)
_VALIDATION_CLIPS = 64


@dataclass(frozen=True)
class Session:
    """One training run: where it lies, on what it runs, how much of everything it does."""

    folder: Path
    preset: Preset
    device: torch.device
    num_clips: int
    effort: float
    workers: int

    def recipe(self, steps: int, **changes: float) -> Recipe:
        """A recipe of `steps` times the effort."""
        return Recipe(max(1, round(steps * self.effort)), **changes)

    @cached_property
    def networks(self) -> Networks:
        """The preset's networks: trained as far as they are finished, else as they begin."""
        torch.manual_seed(0)
        networks = build_networks(self.preset)
        for unet in (networks.generator, networks.interpolator):
            unet.zero_residual_branches()
        for name, module in networks.files().items():
            path = self.folder / f"{name}.safetensors"
            if path.exists():
                module.load_state_dict(load_file(path))
            module.to(self.device)
        return networks

    def clips(self, split: str) -> Clips:
        """The clips of a split, "train" or "validation"."""
        if split == "train":
            seeds = world.TRAIN_SEEDS[: self.num_clips]
        else:
            seeds = world.VALIDATION_SEEDS[:_VALIDATION_CLIPS]
        return render_clips(self.folder / "clips" / split, seeds, self.preset, self.workers)

    def encoded(self, split: str) -> EncodedClips:
        """The encodings of a split's clips."""
        folder = self.folder / "clips" / split
        prompts = {kind: self.tokens(kind) for kind in (*world.KINDS, "")}
        return encode_clips(folder, self.clips(split), self.networks, prompts, self.preset)

    def tokens(self, prompt: str) -> Tensor:
        """(1, L) int64 tokens of a prompt."""
        return torch.tensor([self.tokenizer.encode(prompt).ids])

    @cached_property
    def tokenizer(self) -> Tokenizer:
        path = self.folder / "tokenizer.json"
        if not path.exists():
            config = self.preset.clip_text
            make_tokenizer(config.vocab_size, config.context_length).save(str(path))
        return Tokenizer.from_file(str(path))


def train_vae(session: Session) -> None:
    """The autoencoder; then its latents are standardised, and the decoder learns to bear noise."""
    vae = session.networks.vae
    clips, device = session.clips("train"), session.device
    fit("vae", vae, encoders.vae_loss(clips, device), session.recipe(3000), session.folder)
    vae.fold_latent_statistics(*encoders.latent_statistics(vae, clips, device))
    recipe = session.recipe(500, learning_rate=5e-4, ema_decay=0.98)
    fit("vae_decoder", vae, encoders.decoder_loss(clips, device), recipe, session.folder)


def train_image_and_text(session: Session) -> None:
    """CLIP's text and image encoders and the image resampler."""
    networks, device = session.networks, session.device
    trainer = encoders.ClipTrainer(networks, session.preset).to(device)
    prompts = torch.cat([session.tokens(kind) for kind in world.KINDS]).to(device)
    end = torch.tensor([_last_token(session.tokenizer, kind) for kind in world.KINDS])
    loss = encoders.clip_loss(session.clips("train"), prompts, end, session.preset, device)
    fit("image_and_text", trainer, loss, session.recipe(600, learning_rate=5e-4), session.folder)


def _last_token(tokenizer: Tokenizer, prompt: str) -> int:
    """Place of the end-of-text token: the last that the attention mask keeps."""
    return int(np.sum(tokenizer.encode(prompt).attention_mask)) - 1


def train_audio_encoder(session: Session) -> None:
    """The audio trunk."""
    trainer = encoders.AudioTrainer(session.networks, session.preset).to(session.device)
    loss = encoders.audio_loss(session.clips("train"), session.device)
    fit("audio_encoder", trainer, loss, session.recipe(1400, learning_rate=5e-4), session.folder)


def train_localizer(session: Session) -> None:
    """The network that hears the motion curve."""
    loss = encoders.localizer_loss(session.clips("train"), session.device)
    recipe = session.recipe(1200, learning_rate=5e-4)
    fit("localizer", session.networks.localizer, loss, recipe, session.folder)


def train_generator(session: Session) -> None:
    """The keyframe generator."""
    loss = unets.generator_loss(session.encoded("train"), session.preset, session.device)
    held_out = unets.generator_loss(session.encoded("validation"), session.preset, session.device)
    unet = session.networks.generator
    fit("generator", unet, loss, session.recipe(1320), session.folder, _validation(held_out))


def train_interpolator(session: Session) -> None:
    """The motion interpolator: on runs of 12 frames, then on whole clips as it will be used."""
    preset, device = session.preset, session.device

    def losses(num_frames: int, batch: int) -> list[encoders.Loss]:
        return [
            unets.interpolator_loss(session.encoded(split), preset, device, num_frames, batch)
            for split in ("train", "validation")
        ]

    unet = session.networks.interpolator
    loss, held_out = losses(preset.unet.window, 8)
    fit("interpolator_runs", unet, loss, session.recipe(1220), session.folder,
        _validation(held_out))  # fmt: skip
    windowed = UNet(preset.unet_config("interpolator", preset.sampling.temporal)).to(device)
    windowed.load_state_dict(unet.state_dict())
    loss, held_out = losses(preset.frames, 2)
    recipe = session.recipe(80, learning_rate=2e-4, ema_decay=0.99)
    fit("interpolator", windowed, loss, recipe, session.folder, _validation(held_out))
    unet.load_state_dict(windowed.state_dict())


def _validation(loss: encoders.Loss) -> Callable[[nn.Module], float]:
    """The mean loss over 16 batches that are the same each time."""

    @torch.no_grad()
    def validate(module: nn.Module) -> float:
        module.eval()
        torch.manual_seed(0)
        return float(np.mean([loss(module, np.random.default_rng(i)).item() for i in range(16)]))

    return validate


# In the order in which they build on each other: part, the files it finishes, how.
PARTS: dict[str, tuple[tuple[str, ...], Callable[[Session], None]]] = {
    "vae": (("vae",), train_vae),
    "image_and_text": (("text_encoder", "image_encoder"), train_image_and_text),
    "audio_encoder": (("audio_encoder",), train_audio_encoder),
    "localizer": (("localizer",), train_localizer),
    "generator": (("generator",), train_generator),
    "interpolator": (("interpolator",), train_interpolator),
}


@click.command()
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("runs/tiny"),
    show_default=True,
    help="Folder of the run: clips, checkpoints, losses, weights.",
)
@click.option(
    "--preset", "preset_name", type=click.Choice(list(PRESETS)), default="tiny", show_default=True
)
@click.option(
    "--part",
    "chosen",
    type=click.Choice(list(PARTS)),
    multiple=True,
    help="Train this part only (repeatable); the ones before it must be finished.",
)
@click.option("--device", default="cpu", show_default=True, help="Torch device: cpu, cuda.")
@click.option("--clips", "num_clips", default=3000, show_default=True, help="Clips to train on.")
@click.option("--effort", default=1.0, show_default=True, help="Multiplies every step count.")
@click.option("--threads", default=0, help="Threads of each process; all cores by default.")
def main(
    folder: Path,
    preset_name: str,
    chosen: tuple[str, ...],
    device: str,
    num_clips: int,
    effort: float,
    threads: int,
) -> None:
    """Train the networks of a preset on the synthetic world and write safetensors files."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if threads:
        torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    workers = max(1, threads or torch.get_num_threads())
    preset = PRESETS[preset_name]
    session = Session(folder, preset, torch.device(device), num_clips, effort, workers)
    for name, (files, train) in PARTS.items():
        finished = all((folder / f"{file}.safetensors").exists() for file in files)
        if finished or (chosen and name not in chosen):
            continue
        train(session)
        modules = session.networks.files()
        for file in files:
            save_network(modules[file], folder / f"{file}.safetensors")
        _log.info("%s: finished", name)


if __name__ == "__main__":
    main()
