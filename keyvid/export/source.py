"""What is exported: the weights of a preset and its tokenizer, wherever they come from."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from tokenizers import Tokenizer
from torch import Tensor, nn

from keyvid.bundle.files import known_sha256
from keyvid.bundle.manifest import MANIFEST, Bundle, find_bundle
from keyvid.bundle.specs import SourceSpec, WeightsKind
from keyvid.bundle.tokenizer import open_tokenizer
from keyvid.errors import BundleError, SettingsError
from keyvid.export.hub import HubFile
from keyvid.export.released import LICENCES
from keyvid.export.stages import AVSYNC_STAGES, STAGES
from keyvid_ref.checkpoint import (
    AVSYNC_FOLDERS,
    checkpoints_of,
    read_checkpoints,
    warn_of_copies,
)
from keyvid_ref.presets import Preset
from keyvid_ref.tensor_file import write_tensors
from keyvid_ref.weights import (
    AVSYNC_NETWORKS,
    NETWORKS,
    Networks,
    load_network,
    load_networks,
    random_weights,
    read_weights,
)
from keyvid_ref.world.text import make_tokenizer

TOKENIZER = "tokenizer.json"
_PAD = 0  # CLIP's text encoder was trained with zeros after the end of a text


class Origin(Protocol):
    """A kind of place that networks come from; each is read only when it is asked for.

    Attributes:
        preset: whose networks they are.
        weights: how they came to be.
        inputs: the files that are read, by a name for each.
        downloads: of those, the ones that are fetched from the Hub when they are read.
        made_from: what an input that is a bundle was made from.
        licences: of the weights of each stage, as far as they are stated.
        seed: of random weights, else None.
    """

    @property
    def preset(self) -> Preset: ...
    @property
    def weights(self) -> WeightsKind: ...
    @property
    def inputs(self) -> Mapping[str, Path]: ...
    @property
    def downloads(self) -> Mapping[str, HubFile]: ...
    @property
    def made_from(self) -> Mapping[str, SourceSpec]: ...
    @property
    def licences(self) -> Mapping[str, str]: ...
    @property
    def seed(self) -> int | None: ...

    def needs(self, part: str) -> Collection[str]:
        """Names of the inputs that a network, or the TOKENIZER, is read from."""

    def read(self, network: str) -> Mapping[str, Tensor]:
        """Weights of a network; a ValueError says what is wrong with an input."""

    def read_tokenizer(self) -> Tokenizer:
        """The tokenizer; raises what the tokenizers library raises."""


@dataclass(frozen=True)
class FolderOrigin:
    """A folder with a safetensors file per network and a tokenizer, which may be a bundle."""

    preset: Preset
    inputs: Mapping[str, Path]
    weights: WeightsKind = "trained"
    made_from: Mapping[str, SourceSpec] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)
    downloads: Mapping[str, HubFile] = field(default_factory=dict)
    seed: None = None

    def needs(self, part: str) -> Collection[str]:
        return (part,)

    def read(self, network: str) -> Mapping[str, Tensor]:
        return read_weights(self.inputs[network], self.preset)

    def read_tokenizer(self) -> Tokenizer:
        return open_tokenizer(self.inputs[TOKENIZER], self.preset.clip_text.context_length)


@dataclass(frozen=True)
class ReleasedOrigin:
    """Released checkpoints as for `read_checkpoints`, and "tokenizer", CLIP's `tokenizer.json`."""

    preset: Preset
    inputs: Mapping[str, Path]
    downloads: Mapping[str, HubFile] = field(default_factory=dict)
    weights: WeightsKind = "trained"
    made_from: Mapping[str, SourceSpec] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=lambda: LICENCES)
    seed: None = None

    def needs(self, part: str) -> Collection[str]:
        return ("tokenizer",) if part == TOKENIZER else checkpoints_of(part, self.inputs)

    def read(self, network: str) -> Mapping[str, Tensor]:
        self._fetch(self.needs(network))
        if network == "interpolator":
            warn_of_copies({name: path for name, path in self.inputs.items() if path.is_file()})
        return read_checkpoints(self.preset, network, self.inputs)

    def _fetch(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.downloads:
                self.downloads[name].fetch()

    def read_tokenizer(self) -> Tokenizer:
        self._fetch(["tokenizer"])
        length = self.preset.clip_text.context_length
        tokenizer = open_tokenizer(self.inputs["tokenizer"], length)
        pad = tokenizer.id_to_token(_PAD)
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(length=length, pad_id=_PAD, pad_token=pad)
        return tokenizer


@dataclass(frozen=True)
class RandomOrigin:
    """Random float32 weights, as the released ones are, and a tokenizer that fits."""

    preset: Preset
    seed: int
    weights: WeightsKind = "random"
    inputs: Mapping[str, Path] = field(default_factory=dict)
    downloads: Mapping[str, HubFile] = field(default_factory=dict)
    made_from: Mapping[str, SourceSpec] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)

    def needs(self, part: str) -> Collection[str]:
        return ()

    def read(self, network: str) -> Mapping[str, Tensor]:
        return random_weights(self.preset, network, self.seed)

    def read_tokenizer(self) -> Tokenizer:
        text = self.preset.clip_text
        return make_tokenizer(text.vocab_size, text.context_length)


@dataclass(frozen=True)
class Source:
    """The networks of a preset and its tokenizer, from the place `origin`."""

    origin: Origin

    @property
    def preset(self) -> Preset:
        """The preset whose networks they are."""
        return self.origin.preset

    @classmethod
    def open(cls, preset: Preset, folder: str) -> "Source":
        """The weights in a folder, which may be a bundle, or in the packaged bundle of that name.

        Raises:
            BundleError: there is no such folder, or it is a damaged bundle.
        """
        path = find_bundle(folder)
        networks = AVSYNC_NETWORKS if preset.judges else NETWORKS
        inputs = {name: path / f"{name}.safetensors" for name in networks}
        inputs[TOKENIZER] = path / TOKENIZER
        if not (path / MANIFEST).exists():
            return cls(FolderOrigin(preset, inputs))
        bundle = Bundle.load(folder)
        made_from, licences = bundle.sources or {}, bundle.licences or {}
        return cls(FolderOrigin(preset, inputs, bundle.weights, made_from, licences))

    @classmethod
    def random(cls, preset: Preset, seed: int) -> "Source":
        """Random weights."""
        return cls(RandomOrigin(preset, seed))

    @classmethod
    def released(
        cls,
        preset: Preset,
        inputs: Mapping[str, Path],
        downloads: Mapping[str, HubFile] | None = None,
    ) -> "Source":
        """The weights in released checkpoints.

        Args:
            inputs: files that are here, as in `ReleasedOrigin`.
            downloads: those that are fetched when they are read.
        """
        downloads = downloads or {}
        paths = {name: file.local for name, file in downloads.items()}
        return cls(ReleasedOrigin(preset, {**inputs, **paths}, downloads))

    def needed(self, stages: Iterable[str]) -> dict[str, str]:
        """Names of the inputs that `stages` are read from, each with a stage that needs it."""
        return {
            key: stage
            for stage in stages
            for name in parts(stage)
            for key in self.origin.needs(name)
        }

    def check(self, stages: Iterable[str]) -> None:
        """Refuse to export stages for which an input is missing.

        Raises:
            SettingsError: it was not given.
            BundleError: there is no such file.
        """
        inputs = self.origin.inputs
        for name, stage in self.needed(stages).items():
            if name not in inputs:
                raise SettingsError(
                    f"{stage}: needs {option_for(name)}; give it, or choose other stages with "
                    "--stage"
                )
            if name not in self.origin.downloads and not inputs[name].is_file():
                raise BundleError(
                    f"{inputs[name]}: no such file; it is needed for {stage}, name another"
                )

    def checksums(self, stages: Iterable[str]) -> dict[str, str]:
        """What tells each input that `stages` are read from; nothing is downloaded for it."""
        downloads = self.origin.downloads
        return {
            name: downloads[name].checksum
            if name in downloads
            else known_sha256(self.origin.inputs[name])
            for name in self.needed(stages)
        }

    def describe(self, stages: Iterable[str]) -> dict[str, SourceSpec]:
        """What `bundle.json` says of each input that `stages` are read from."""
        if self.origin.made_from:
            return dict(self.origin.made_from)
        specs = {}
        for name in self.needed(stages):
            path = self.origin.inputs[name]
            if name in self.origin.downloads:
                specs[name] = self.origin.downloads[name].describe()
            else:
                specs[name] = SourceSpec(path.stat().st_size, known_sha256(path))
        return specs

    def licences(self, stages: Iterable[str]) -> dict[str, str]:
        """Licences of the weights of `stages`; none where the source states none at all."""
        stated = self.origin.licences
        return {stage: stated.get(stage, "not known") for stage in stages} if stated else {}

    def drop_downloads(self, still_read: Iterable[str]) -> None:
        """Remove the large downloads that none of the parts `still_read` is read from."""
        needed = {name for part in still_read for name in self.origin.needs(part)}
        for name, file in self.origin.downloads.items():
            if file.is_large and name not in needed:
                file.local.unlink(missing_ok=True)

    def write(self, name: str, folder: Path, *, half: bool = False) -> None:
        """Write the weights of a network into `folder`, in float16 if `half`, or the TOKENIZER.

        Raises:
            BundleError: an input is damaged or of another preset.
        """
        if name == TOKENIZER:
            self._tokenizer().save(str(folder / TOKENIZER))
            return
        try:
            write_tensors(folder / f"{name}.safetensors", self.origin.read(name), half=half)
        except ValueError as error:
            raise BundleError(str(error)) from error

    def load_judge(self) -> dict[str, nn.Module]:
        """The reference networks of a judge.

        Raises:
            BundleError: as for `load`.
        """
        self.check(AVSYNC_STAGES)
        with TemporaryDirectory() as folder:
            for name in AVSYNC_NETWORKS:
                self.write(name, Path(folder))
            return {
                name: load_network(Path(folder) / f"{name}.safetensors", self.preset)
                for name in AVSYNC_NETWORKS
            }

    def load(self) -> tuple[Networks, Tokenizer]:
        """All reference networks that make clips, and the tokenizer.

        Raises:
            BundleError: an input is missing, damaged or of another preset.
        """
        self.check(STAGES)
        with TemporaryDirectory() as folder:
            for name in NETWORKS:
                self.write(name, Path(folder))
            return load_networks(Path(folder), self.preset), self._tokenizer()

    def _tokenizer(self) -> Tokenizer:
        """The tokenizer, if it gives what the text encoder takes."""
        text = self.preset.clip_text
        paths = [self.origin.inputs[name] for name in self.origin.needs(TOKENIZER)]
        where = paths[0] if paths else TOKENIZER
        try:
            tokenizer = self.origin.read_tokenizer()
            length = len(tokenizer.encode("").ids)
        except Exception as error:  # tokenizers raises nothing more special
            raise BundleError(f"{where}: not a tokenizer: {error}; download it again") from error
        if length != text.context_length or tokenizer.get_vocab_size() > text.vocab_size:
            raise BundleError(
                f"{where}: gives {length} of {tokenizer.get_vocab_size()} tokens, "
                f"the text encoder takes {text.context_length} of {text.vocab_size}; name another"
            )
        return tokenizer


def option_for(name: str) -> str:
    """The option of `keyvid-export` that a released file is given with."""
    return "--avsync FOLDER" if name in AVSYNC_FOLDERS else f"--{name} FILE"


def parts(stage: str) -> tuple[str, ...]:
    """What a stage is made of: the name of its network, and TOKENIZER if it reads that."""
    network = (STAGES | AVSYNC_STAGES)[stage].weights
    return (network, TOKENIZER) if stage == "text_encoder" else (network,)
