"""What is exported: the weights of a preset and its tokenizer, as files."""

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers import Tokenizer

from keyvid.engines.bundle import MANIFEST, Bundle, find_bundle
from keyvid.engines.errors import BundleError
from keyvid.export.stages import STAGES
from keyvid_ref.presets import Preset
from keyvid_ref.weights import Networks, load_networks, random_networks
from keyvid_ref.world_text import make_tokenizer

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Source:
    """A folder with a safetensors file for each network of `preset`, and the tokenizer.

    `weights` says how they came to be: "trained" or "random".
    """

    preset: Preset
    folder: Path
    weights: str

    @classmethod
    def open(cls, preset: Preset, folder: str) -> "Source":
        """The weights in a folder, which may be a bundle, or in the packaged bundle of that name.

        Raises:
            BundleError: there is no such folder, or it is a damaged bundle.
        """
        path = find_bundle(folder)
        is_bundle = (path / MANIFEST).exists()
        return cls(preset, path, Bundle.load(folder).weights if is_bundle else "trained")

    @classmethod
    def random(cls, preset: Preset, seed: int, folder: Path) -> "Source":
        """Random weights in half precision and a tokenizer that fits, written into `folder`."""
        for name, module in random_networks(preset, seed).files().items():
            state = {key: value.half() for key, value in module.state_dict().items()}
            save_file(state, folder / f"{name}.safetensors")
        text = preset.clip_text
        tokenizer = make_tokenizer(text.vocab_size, text.context_length)
        tokenizer.save(str(folder / TOKENIZER))
        return cls(preset, folder, "random")

    def path(self, stage: str) -> Path:
        """Weight file of a stage."""
        return self.folder / f"{STAGES[stage].weights}.safetensors"

    def load(self) -> tuple[Networks, Tokenizer]:
        """The reference networks and the tokenizer.

        Raises:
            BundleError: a file is missing, damaged or of another preset.
        """
        for file in {self.path(name): None for name in STAGES} | {self.folder / TOKENIZER: None}:
            if not file.is_file():
                raise BundleError(
                    f"{file}: no such file; --weights takes a folder with all of them"
                )
        try:
            tokenizer = Tokenizer.from_file(str(self.folder / TOKENIZER))
        except Exception as error:  # tokenizers raises nothing more special
            raise BundleError(f"{self.folder / TOKENIZER}: not a tokenizer: {error}") from error
        try:
            return load_networks(self.folder, self.preset), tokenizer
        except (ValueError, SafetensorError) as error:
            summary = " ".join(str(error).split())[:300]  # torch lists every key on its own line
            raise BundleError(f"{self.folder}: cannot load the weights: {summary}") from error
