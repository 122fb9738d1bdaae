"""Train every network of a preset on the synthetic world: `python -m keyvid_ref.train`.

The parts build on one another: autoencoder, text and image encoders, audio encoder and localizer
first; then the clips are encoded once and the two U-Nets learn from the encodings, the
interpolator first on short runs of frames, then on whole clips. Each finished part leaves
`NAME.safetensors` in the output folder, and a run that is started again goes on where it stopped.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import click
import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from keyvid_ref import train_encoders as encoders
from keyvid_ref import train_parallel as parallel
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
_UNET_BATCH = 12
_MOVING_WEIGHT = 5.0


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

    @property
    def lock(self) -> FileLock:
        """Held while something is made that several processes share; the others wait for it."""
        return FileLock(self.folder / "lock")

    def clips(self, split: str) -> Clips:
        """The clips of a split, "train" or "validation"."""
        if split == "train":
            seeds = world.TRAIN_SEEDS[: self.num_clips]
        else:
            seeds = world.VALIDATION_SEEDS[:_VALIDATION_CLIPS]
        with self.lock:
            return render_clips(self.folder / "clips" / split, seeds, self.preset, self.workers)

    def encoded(self, split: str) -> EncodedClips:
        """The encodings of a split's clips."""
        folder = self.folder / "clips" / split
        prompts = {kind: self.tokens(kind) for kind in (*world.KINDS, "")}
        clips = self.clips(split)
        with self.lock:  # the other processes wait: this one may use their cores
            threads = torch.get_num_threads()
            torch.set_num_threads(self.workers)
            encoded = encode_clips(folder, clips, self.networks, prompts, self.preset)
            torch.set_num_threads(threads)
        return encoded

    def tokens(self, prompt: str) -> Tensor:
        """(1, L) int64 tokens of a prompt."""
        return torch.tensor([self.tokenizer.encode(prompt).ids])

    @cached_property
    def tokenizer(self) -> Tokenizer:
        path = self.folder / "tokenizer.json"
        with self.lock:
            if not path.exists():
                config = self.preset.clip_text
                make_tokenizer(config.vocab_size, config.context_length).save(str(path))
        return Tokenizer.from_file(str(path))


def train_vae(session: Session) -> None:
    """The autoencoder; then its latents are scaled, and the decoder learns to bear noise."""
    vae = session.networks.vae
    clips, device = session.clips("train"), session.device
    vae.start_from_principal_components(encoders.sample_frames(clips, device))
    batch = parallel.share(32)
    loss = encoders.vae_loss(clips, device, batch)
    fit("vae", vae, loss, session.recipe(1800), session.folder)
    vae.fold_latent_statistics(*encoders.latent_scale(vae, clips, device))
    recipe = session.recipe(400, learning_rate=5e-4, ema_decay=0.98)
    loss = encoders.decoder_loss(clips, device, batch)
    fit("vae_decoder", vae, loss, recipe, session.folder)


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
    loss = encoders.audio_loss(session.clips("train"), session.device, parallel.share(16))
    fit("audio_encoder", trainer, loss, session.recipe(1400, learning_rate=5e-4), session.folder)


def train_localizer(session: Session) -> None:
    """The network that hears the motion curve: its values first, then its slopes as well."""
    clips, localizer, batch = session.clips("train"), session.networks.localizer, parallel.share(16)
    for name, steps, slope_weight in (("localizer", 1200, 0.0), ("localizer_slopes", 800, 3.0)):
        loss = encoders.localizer_loss(clips, session.device, batch, slope_weight)
        recipe = session.recipe(steps, learning_rate=5e-4)
        fit(name, localizer, loss, recipe, session.folder)


def train_generator(session: Session) -> None:
    """The keyframe generator: what moves counts most at first, then every place as much."""
    unet = session.networks.generator
    loss = partial(unets.generator_loss, preset=session.preset, device=session.device)
    recipe = session.recipe(2400, learning_rate=1.5e-3, beta2=0.95)
    weighted = partial(loss, moving_weight=_MOVING_WEIGHT)
    _fit_unet(session, "generator_motion", unet, weighted, recipe, _UNET_BATCH)
    recipe = session.recipe(1000, learning_rate=1e-3, beta2=0.95, ema_decay=0.999)
    _fit_unet(session, "generator", unet, loss, recipe, _UNET_BATCH)


def train_interpolator(session: Session) -> None:
    """The motion interpolator: on runs of 12 frames, then on whole clips as it will be used.

    It begins as the generator, which knows the scenes and what moves them.
    """
    preset, device = session.preset, session.device
    clip_loss = partial(
        unets.interpolator_loss, preset=preset, device=device, num_frames=preset.frames
    )
    run_loss = partial(clip_loss, num_frames=preset.unet.window)
    unet = session.networks.interpolator
    unet.load_state_dict(session.networks.generator.state_dict(), strict=False)
    recipe = session.recipe(1800, learning_rate=1.5e-3, beta2=0.95)
    weighted = partial(run_loss, moving_weight=_MOVING_WEIGHT)
    _fit_unet(session, "interpolator_motion", unet, weighted, recipe, _UNET_BATCH)
    recipe = session.recipe(1000, learning_rate=1e-3, beta2=0.95, ema_decay=0.999)
    _fit_unet(session, "interpolator_runs", unet, run_loss, recipe, _UNET_BATCH)
    recipe = session.recipe(80, learning_rate=2e-4, ema_decay=0.99)
    _fit_unet(session, "interpolator", unet, clip_loss, recipe, 2)


def _fit_unet(
    session: Session,
    name: str,
    unet: UNet,
    make_loss: Callable[..., encoders.Loss],
    recipe: Recipe,
    batch: int,
) -> None:
    """Train `unet`; its batches are shared by the processes, those it is validated on are not."""
    loss, held_out = [
        make_loss(session.encoded(split), batch=size)
        for split, size in (("train", parallel.share(batch)), ("validation", batch))
    ]
    fit(name, unet, loss, recipe, session.folder, _validation(held_out))


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
@click.option("--clips", "num_clips", default=8000, show_default=True, help="Clips to train on.")
@click.option("--effort", default=1.0, show_default=True, help="Multiplies every step count.")
@click.option("--threads", default=0, help="Threads of each process; all cores by default.")
@click.option(
    "--processes",
    default=1,
    show_default=True,
    help="Processes that train a network together, each on its share of the batch; on a CPU.",
)
def main(
    folder: Path,
    preset_name: str,
    chosen: tuple[str, ...],
    device: str,
    num_clips: int,
    effort: float,
    threads: int,
    processes: int,
) -> None:
    """Train the networks of a preset on the synthetic world and write safetensors files."""
    folder.mkdir(parents=True, exist_ok=True)
    threads = threads or max(1, torch.get_num_threads() // processes)
    workers = threads * processes
    preset = PRESETS[preset_name]
    session = Session(folder, preset, torch.device(device), num_clips, effort, workers)
    parallel.start(processes, _train, session, chosen, threads)


def _train(session: Session, chosen: tuple[str, ...], threads: int) -> None:
    """Train the chosen parts, all where none are, that are not finished."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(threads)
    for name, (files, train) in PARTS.items():
        paths = {file: session.folder / f"{file}.safetensors" for file in files}
        finished = all(path.exists() for path in paths.values())
        if finished or (chosen and name not in chosen):
            continue
        train(session)
        if parallel.rank() == 0:
            modules = session.networks.files()
            for file, path in paths.items():
                save_network(modules[file], path)
            _log.info("%s: finished", name)


if __name__ == "__main__":
    main()
