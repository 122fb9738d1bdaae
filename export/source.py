"""What is exported: the weights of a preset and its tokenizer, wherever they come from."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer
from torch import Tensor

from keyvid.bundle.files import known_sha256
from keyvid.bundle.manifest import MANIFEST, Bundle, find_bundle
from keyvid.bundle.specs import FileSpec
from keyvid.errors import BundleError, SettingsError
from keyvid.export.stages import STAGES
from keyvid_ref.checkpoint import checkpoints_of, read_checkpoints, warn_of_copies
from keyvid_ref.presets import Preset
from keyvid_ref.tensor_file import write_tensors
from keyvid_ref.weights import NETWORKS, Networks, load_networks, random_weights, read_weights
from keyvid_ref.world_text import make_tokenizer

TOKENIZER = "tokenizer.json"
_PAD = 0  # CLIP's text encoder was trained with zeros after the end of a text


@dataclass(frozen=True)
class Source:
    """The networks of `preset` and its tokenizer, each read only when it is asked for.

    Attributes:
        weights: how they came to be, "trained" or "random".
        read: name of a network to its weights.
        read_tokenizer: gives the tokenizer.
        inputs: the files that are read, by a name for each.
        needs: name of a network, or TOKENIZER, to the names of its inputs.
        made_from: what an input that is a bundle was made from.
        seed: of random weights.
    """

    preset: Preset
    weights: str
    read: Callable[[str], Mapping[str, Tensor]]
    read_tokenizer: Callable[[], Tokenizer]
    inputs: Mapping[str, Path] = field(default_factory=dict)
    needs: Callable[[str], Collection[str]] = lambda _: ()
    made_from: Mapping[str, FileSpec] = field(default_factory=dict)
    seed: int | None = None

    @classmethod
    def open(cls, preset: Preset, folder: str) -> "Source":
        """The weights in a folder, which may be a bundle, or in the packaged bundle of that name.

        Raises:
            BundleError: there is no such folder, or it is a damaged bundle.
        """
        path = find_bundle(folder)
        inputs = {name: path / f"{name}.safetensors" for name in NETWORKS}
        inputs[TOKENIZER] = path / TOKENIZER
        bundle = Bundle.load(folder) if (path / MANIFEST).exists() else None
        return cls(
            preset,
            bundle.weights if bundle else "trained",
            lambda name: read_weights(inputs[name], preset),
            lambda: Tokenizer.from_file(str(inputs[TOKENIZER])),
            inputs,
            lambda name: (name,),
            (bundle and bundle.sources) or {},
        )

    @classmethod
    def random(cls, preset: Preset, seed: int) -> "Source":
        """Random float32 weights, as the released ones are, and a tokenizer that fits."""
        text = preset.clip_text
        return cls(
            preset,
            "random",
            lambda name: random_weights(preset, name, seed),
            lambda: make_tokenizer(text.vocab_size, text.context_length),
            seed=seed,
        )

    @classmethod
    def released(cls, preset: Preset, inputs: Mapping[str, Path]) -> "Source":
        """The weights in released checkpoints, and CLIP's tokenizer.

        Args:
            inputs: checkpoints as for `read_checkpoints`, and a `tokenizer.json` by "tokenizer".
        """

        def needs(name: str) -> Collection[str]:
            return ("tokenizer",) if name == TOKENIZER else checkpoints_of(name, inputs)

        def read(name: str) -> dict[str, Tensor]:
            if name == "interpolator":
                warn_of_copies(inputs)
            return read_checkpoints(preset, name, inputs)

        def read_tokenizer() -> Tokenizer:
            tokenizer = Tokenizer.from_file(str(inputs["tokenizer"]))
            length, pad = preset.clip_text.context_length, tokenizer.id_to_token(_PAD)
            tokenizer.enable_truncation(length)
            tokenizer.enable_padding(length=length, pad_id=_PAD, pad_token=pad)
            return tokenizer

        return cls(
            preset,
            "trained",
            read,
            read_tokenizer,
            inputs,
            needs,
        )

    def needed(self, stages: Iterable[str]) -> dict[str, str]:
        """Names of the inputs that `stages` are read from, each with a stage that needs it."""
        return {key: stage for stage in stages for name in parts(stage) for key in self.needs(name)}

    def check(self, stages: Iterable[str]) -> None:
        """Refuse to export stages for which an input is missing.

        Raises:
            SettingsError: it was not given.
            BundleError: there is no such file.
        """
        for name, stage in self.needed(stages).items():
            if name not in self.inputs:
                raise SettingsError(
                    f"{stage}: needs --{name} FILE; give it, or choose other stages with --stage"
                )
            if not self.inputs[name].is_file():
                raise BundleError(
                    f"{self.inputs[name]}: no such file; it is needed for {stage}, name another"
                )

    def checksums(self, stages: Iterable[str]) -> dict[str, FileSpec]:
        """Size and sha256 of each input that `stages` are read from."""
        paths = {name: self.inputs[name] for name in self.needed(stages)}
        return {n: FileSpec(p.stat().st_size, known_sha256(p)) for n, p in paths.items()}

    def write(self, name: str, folder: Path, *, half: bool = False) -> None:
        """Write the weights of a network into `folder`, in float16 if `half`, or the TOKENIZER.

        Raises:
            BundleError: an input is damaged or of another preset.
        """
        if name == TOKENIZER:
            self._tokenizer().save(str(folder / TOKENIZER))
            return
        try:
            write_tensors(folder / f"{name}.safetensors", self.read(name), half=half)
        except ValueError as error:
            raise BundleError(str(error)) from error

    def load(self) -> tuple[Networks, Tokenizer]:
        """All reference networks and the tokenizer.

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
        try:
            tokenizer = self.read_tokenizer()
            length = len(tokenizer.encode("").ids)
        except Exception as error:  # tokenizers raises nothing more special
            raise BundleError(
                f"{self._tokenizer_path()}: not a tokenizer: {error}; download it again"
            ) from error
        if length != text.context_length or tokenizer.get_vocab_size() > text.vocab_size:
            raise BundleError(
                f"{self._tokenizer_path()}: gives {length} of {tokenizer.get_vocab_size()} tokens, "
                f"the text encoder takes {text.context_length} of {text.vocab_size}; name another"
            )
        return tokenizer

    def _tokenizer_path(self) -> Path:
        return next((self.inputs[name] for name in self.needs(TOKENIZER)), Path(TOKENIZER))


def parts(stage: str) -> tuple[str, ...]:
    """What a stage is made of: the name of its network, and TOKENIZER if it reads that."""
    network = STAGES[stage].weights
    return (network, TOKENIZER) if stage == "text_encoder" else (network,)
