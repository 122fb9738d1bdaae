"""The parts of a training run: each waits for the files of others and leaves its own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from keyvid_ref.training import ears, losses
from keyvid_ref.training.data import SPLITS, ClipEncoder, Clips, draw_clips, to_pixels, wait_for
from keyvid_ref.training.run import Run
from keyvid_ref.vae import VAE
from keyvid_ref.world import world

_VALIDATION_BATCHES = 8
_AUTOENCODER_CLIPS = 2000  # whose frames are kept on the device
_READ_SOUNDS = 400  # from which the reading of a teacher's tokens is fitted
_FIRST_CLIPS = 400  # of which some frames tell the statistics
_CROP = (8, 12)  # latents that the interpolator sees at first


def draw(run: Run) -> None:
    """Draw all clips."""
    run.save_tokenizer()
    for split, seeds in SPLITS.items():
        num_clips = min(run.num_clips, len(seeds))
        folder = run.folder / "clips" / split
        draw_clips(folder, split, num_clips, run.preset, run.workers, run.recordings)


def draw_sounds(run: Run) -> None:
    """Draw sounds alone, where there are recordings; else the ears hear those of the clips."""
    if run.recordings:
        for split, seeds in SPLITS.items():
            count = min(2 * run.num_clips, len(seeds))
            folder = run.folder / "sounds" / split
            ears.draw_sounds(folder, split, count, run.recordings, run.workers)


def train_autoencoder(run: Run) -> None:
    """The autoencoder, whose latents are scaled in the end."""
    vae = run.begin("vae")
    clips = run.clips("train", "frames", at_most=_AUTOENCODER_CLIPS)
    first = clips["frames"][: min(len(clips), _FIRST_CLIPS)]  # the same when a run goes on
    some = to_pixels(first[::2, ::12]).flatten(0, 1)
    vae.start_from_principal_components(some)
    _fit_frames(run, "autoencoder", vae, losses.autoencoder_loss, clips)
    vae.fold_latent_statistics(*_latent_scale(vae, some))
    run.save({"vae": vae})


def train_decoder(run: Run) -> None:
    """The decoder alone, on noisy latents; the others may use the encoder, which stays as it is."""
    vae = run.finished("vae")
    vae.requires_grad_(False)
    for module in (vae.decoder, vae.post_quant_conv, vae.decoder_shortcut):
        module.requires_grad_(True)
    clips = run.clips("train", "frames", at_most=_AUTOENCODER_CLIPS)
    _fit_frames(run, "decoder", vae, losses.decoder_loss, clips)
    run.save({"vae": vae})


def _fit_frames(run: Run, phase: str, vae: VAE, loss: Callable[..., Tensor], clips: Clips) -> None:
    encode, decode = run.compiled(vae.encode_moments), run.compiled(vae.decode)
    batch, held = run.recipe(phase).batch, run.clips("validation", "frames")

    def of_batch(generator: torch.Generator, _: float) -> Tensor:
        return loss(encode, decode, clips.choose_frames(batch, generator)[1], generator)

    @torch.no_grad()
    def psnr() -> float:
        """Mean over frames, decibels."""
        frames = to_pixels(held["frames"][: len(held), ::16]).flatten(0, 1)
        decoded = [
            vae.decode(vae.encode_moments(part).chunk(2, dim=1)[0]).clamp(-1, 1)
            for part in frames.split(16)
        ]
        squared = (torch.cat(decoded) - frames).square().mean(dim=(1, 2, 3)) / 4
        return -float(10 * squared.log10().mean())

    run.fit(phase, vae, of_batch, {"vae": vae}, psnr)


@torch.no_grad()
def _latent_scale(vae: VAE, image: Tensor) -> tuple[Tensor, Tensor]:
    """Per channel: the mean of the posterior means, and what to divide by.

    Dividing by the root of the deviation makes the loud channels (colour) less loud and leaves the
    faint ones (detail) fainter than they, unit variance on the whole.
    """
    mean = torch.cat([vae.encode_moments(part).chunk(2, dim=1)[0] for part in image.split(64)])
    std = mean.std(dim=(0, 2, 3))
    return mean.mean(dim=(0, 2, 3)), (std * std.mean()).sqrt()


def train_image_and_text(run: Run) -> None:
    """CLIP's text and image encoders and the image resampler."""
    files = {name: run.begin(name) for name in ("text_encoder", "image_encoder")}
    trainer = losses.ClipTrainer(files["text_encoder"], files["image_encoder"], run.preset)
    trainer.to(run.device)
    clips = run.clips("train", "frames", "kind", at_most=_AUTOENCODER_CLIPS)
    tokens, end = zip(*(run.tokens(kind) for kind in world.KINDS), strict=True)
    prompts, last = torch.cat(tokens).to(run.device), torch.tensor(end, device=run.device)
    batch = run.recipe("image_and_text").batch

    def loss(generator: torch.Generator, _: float) -> Tensor:
        clip, image = clips.choose_frames(batch, generator)
        return trainer.loss(image, clips["kind"][clip], prompts, last)

    run.fit("image_and_text", trainer, loss, files)
    run.save(files)


def train_audio_encoder(run: Run) -> None:
    """The audio trunk; with recordings, what it begins from is its teacher."""
    encoder = run.begin("audio_encoder")
    trainer: ears.AudioTrainer | ears.PupilTrainer = ears.AudioTrainer(encoder, run.preset)
    if run.recordings and run.start:
        teacher = run.begin("audio_encoder").eval()
        trainer = ears.PupilTrainer(encoder, teacher, run.preset.frames)
        known = run.sounds("train")
        some = slice(min(len(known), _READ_SOUNDS))
        trainer.learn_to_read(known["mel"][some], known["motion"][some], known["pose"][some])
    trainer.to(run.device)
    _fit_sounds(run, "audio_encoder", trainer, trainer.loss, encoder)


def train_localizer(run: Run) -> None:
    """The network that hears the motion curve."""
    localizer = run.begin("localizer")

    def loss(heard: Tensor, drawn: Tensor, motion: Tensor, pose: Tensor) -> Tensor:
        return ears.localizer_loss(localizer, heard, motion)

    _fit_sounds(run, "localizer", localizer, loss, localizer)


def _fit_sounds(
    run: Run, name: str, module: nn.Module, loss: Callable[..., Tensor], saved: nn.Module
) -> None:
    clips, held = (run.sounds(split) for split in ("train", "validation"))
    batch = run.recipe(name).batch

    def of_batch(generator: torch.Generator, _: float) -> Tensor:
        return loss(*ears.hear(clips, batch, generator))

    @torch.no_grad()
    def validate() -> float:
        rows = slice(len(held))
        drawn, heard = held["mel"][rows].float(), held["heard" if "heard" in held else "mel"]
        return float(loss(heard[rows].float(), drawn, held["motion"][rows], held["pose"][rows]))

    run.fit(name, module, of_batch, {name: saved}, validate)
    run.save({name: saved})


def encode(run: Run) -> None:
    """Encode all clips, as they are drawn, with the finished encoders."""
    names = ("vae", "text_encoder", "image_encoder", "audio_encoder")
    prompts = {kind: run.tokens(kind)[0] for kind in (*world.KINDS, "")}
    encoder = ClipEncoder({name: run.finished(name) for name in names}, prompts, run.preset)
    for split, seeds in SPLITS.items():
        encoder.encode(run.folder / "clips" / split, min(run.num_clips, len(seeds)))


def train_generator(run: Run) -> None:
    """The keyframe generator: what moves counts most at first, then every place as much."""
    unet = run.begin("generator")
    _fit_unet(run, "generator", "generator", unet, losses.generator_loss, 0.5)
    run.save({"generator": unet})


def train_interpolator(run: Run) -> None:
    """The motion interpolator: on runs of frames, then on whole clips as it will be used.

    It begins as the generator, which knows the scenes and what moves them.
    """
    generator = run.folder / "generator.safetensors"
    if not run.start_file("interpolator"):
        wait_for(generator.exists, str(generator))
    unet = run.begin("interpolator", otherwise=generator)
    whole = partial(losses.interpolator_loss, num_frames=run.preset.frames)
    crop = _CROP if run.crops else None
    runs = partial(losses.interpolator_loss, num_frames=run.preset.unet.window, crop=crop)
    _fit_unet(run, "interpolator", "interpolator_runs", unet, runs, 0.6, held=whole, held_batch=8)
    _fit_unet(run, "interpolator", "interpolator", unet, whole, held_batch=8)
    run.save({"interpolator": unet})


def _fit_unet(
    run: Run,
    name: str,
    phase: str,
    unet: nn.Module,
    loss: Callable[..., Tensor],
    moving_until: float = 0.0,
    held: Callable[..., Tensor] | None = None,
    held_batch: int = 32,
) -> None:
    """Train on `loss`, with what moves four times as heavy until a share of the training.

    Args:
        held: what to validate on, in batches of `held_batch`; else `loss` without weights.
    """
    arrays = ("latent", "audio", "image", "text", "moving", "keyframes")
    validation, clips = run.clips("validation", *arrays), run.clips("train", *arrays)
    compiled, batch = run.compiled(unet), run.recipe(phase).batch

    def of_batch(generator: torch.Generator, share: float) -> Tensor:
        weight = 4.0 if share < moving_until else 1.0
        return loss(compiled, clips, run.preset, batch, generator, weight)

    @torch.no_grad()
    def validate() -> float:
        generator = torch.Generator(run.device).manual_seed(0)
        size = max(1, round(held_batch * run.batch_scale))
        values = [
            (held or loss)(unet, validation, run.preset, size, generator)
            for _ in range(_VALIDATION_BATCHES)
        ]
        return float(torch.stack(values).mean())

    run.fit(phase, unet, of_batch, {name: unet}, validate)


@dataclass(frozen=True)
class Part:
    """One process of a run: the phases that share its time, and the files that tell it is finished.

    One without files knows itself what is left to do.
    """

    train: Callable[[Run], None]
    files: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()

    def is_finished(self, run: Run) -> bool:
        """Whether nothing is left to do."""
        return run.has(self.files)

    def __call__(self, run: Run) -> None:
        """Do what is left to do."""
        self.train(run.of_phases(self.phases))


# In the order in which they build on each other.
PARTS = {
    "draw": Part(draw),
    "sounds": Part(draw_sounds),
    "autoencoder": Part(train_autoencoder, ("vae",), ("autoencoder",)),
    "image_and_text": Part(
        train_image_and_text, ("text_encoder", "image_encoder"), ("image_and_text",)
    ),
    "audio_encoder": Part(train_audio_encoder, ("audio_encoder",), ("audio_encoder",)),
    "localizer": Part(train_localizer, ("localizer",), ("localizer",)),
    "encode": Part(encode),
    "decoder": Part(train_decoder, (), ("decoder",)),
    "generator": Part(train_generator, ("generator",), ("generator",)),
    "interpolator": Part(
        train_interpolator, ("interpolator",), ("interpolator_runs", "interpolator")
    ),
}
