"""A training run: its folder and machine, and what each phase takes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from keyvid_ref.presets import Preset
from keyvid_ref.training.data import Clips, wait_for
from keyvid_ref.training.loop import Recipe, fit
from keyvid_ref.weights import build_network, load_network, save_network
from keyvid_ref.world.text import make_tokenizer

# Seconds and batches of one H200, which `Run` scales to other machines; one entry for each phase.
RECIPES = {
    "autoencoder": Recipe(110, 96, 1.5e-3),
    "decoder": Recipe(240, 96, 1.2e-3),
    "image_and_text": Recipe(110, 96, 5e-4),
    "audio_encoder": Recipe(200, 128, 6e-4),
    "localizer": Recipe(200, 128, 6e-4),
    "generator": Recipe(540, 96, 1.5e-3, beta2=0.95, ema_decay=0.9992, warmup_steps=200),
    "interpolator_runs": Recipe(300, 96, 1.2e-3, beta2=0.95, ema_decay=0.999, warmup_steps=200),
    "interpolator": Recipe(200, 24, 5e-4, beta2=0.95, warmup_steps=50),
}


@dataclass(frozen=True)
class Run:
    """A run: its folder and machine, and how much of everything it does.

    scale: of the recipes' seconds; seconds: of each part, instead; batch_scale: of the batches;
    steps: most steps of a phase; threads: 0 for torch's own choice.
    rate_scale: of the learning rates. start: folder of weights to begin from, where it has them.
    recordings: folder of recorded sounds, for the ears and every second clip.
    """

    folder: Path
    preset: Preset
    device: torch.device
    num_clips: int
    workers: int
    threads: int = 0
    scale: float = 1.0
    seconds: float | None = None
    batch_scale: float = 1.0
    rate_scale: float = 1.0
    steps: float = float("inf")
    crops: bool = False
    start: Path | None = None
    recordings: Path | None = None

    def has(self, files: Sequence[str]) -> bool:
        """Whether there are all networks of these names, and at least one."""
        paths = [self.folder / f"{name}.safetensors" for name in files]
        return bool(paths) and all(path.exists() for path in paths)

    def of_phases(self, phases: Sequence[str]) -> "Run":
        """The run as a part of it sees it: with its `seconds` shared by the part's phases."""
        seconds = sum(RECIPES[phase].seconds for phase in phases)
        return replace(self, scale=self.seconds / seconds) if self.seconds and seconds else self

    def recipe(self, phase: str) -> Recipe:
        recipe = RECIPES[phase]
        batch = max(1, round(recipe.batch * self.batch_scale))
        return replace(
            recipe,
            seconds=recipe.seconds * self.scale,
            batch=batch,
            steps=self.steps,
            learning_rate=recipe.learning_rate * self.rate_scale,
        )

    def fit(
        self,
        phase: str,
        module: nn.Module,
        loss: Callable[[torch.Generator, float], Tensor],
        files: dict[str, nn.Module],
        validate: Callable[[], float] | None = None,
    ) -> None:
        """Train `module`, with snapshots of `files` under way."""
        folder = self.folder / "snapshots"
        folder.mkdir(exist_ok=True)
        snapshot = partial(_save, files, folder)
        fit(phase, module, loss, self.recipe(phase), self.folder, validate, snapshot)

    def begin(self, name: str, otherwise: Path | None = None) -> Any:
        """A network to train, with the weights to begin from, if there are some."""
        torch.manual_seed(0)
        network: Any = build_network(self.preset, name)
        if name == "generator":
            network.zero_residual_branches()
        path = self.start_file(name) or otherwise
        if path:
            network.load_state_dict(load_file(path), strict=path != otherwise)
        return network.to(self.device)

    def start_file(self, name: str) -> Path | None:
        """The weights of a network that the run was given to begin from, if it was."""
        path = self.start / f"{name}.safetensors" if self.start else None
        return path if path and path.exists() else None

    def finished(self, name: str) -> Any:
        """The network that another part has trained."""
        path = self.folder / f"{name}.safetensors"
        wait_for(path.exists, str(path))
        return load_network(path, self.preset).to(self.device)

    def clips(self, split: str, *names: str, at_most: int | None = None) -> Clips:
        return Clips(self.folder / "clips" / split, names, self.device, at_most=at_most)

    def sounds(self, split: str) -> Clips:
        """Sounds alone with recordings, if there are some, else those of the clips."""
        if self.recordings is None:
            return self.clips(split, "mel", "motion", "pose")
        return Clips(
            self.folder / "sounds" / split, ("mel", "heard", "motion", "pose"), self.device
        )

    def compiled(self, function: Callable[..., Any]) -> Any:
        """`function`, compiled where that pays: not on a CPU."""
        return function if self.device.type == "cpu" else torch.compile(function, dynamic=False)

    def tokens(self, prompt: str) -> tuple[Tensor, int]:
        """(1, L) int64 tokens of a prompt, and the place of the last that means something."""
        encoded = self._tokenizer.encode(prompt)
        return torch.tensor([encoded.ids]), int(np.sum(encoded.attention_mask)) - 1

    @cached_property
    def _tokenizer(self) -> Any:
        config = self.preset.clip_text
        return make_tokenizer(config.vocab_size, config.context_length)

    def save(self, files: dict[str, nn.Module]) -> None:
        """Leave finished networks under their names."""
        _save(files, self.folder)

    def save_tokenizer(self) -> None:
        partial = self.folder / "tokenizer.partial"
        self._tokenizer.save(str(partial))
        os.replace(partial, self.folder / "tokenizer.json")


def _save(files: dict[str, nn.Module], folder: Path) -> None:
    for name, module in files.items():
        save_network(module, folder / f"{name}.safetensors")
