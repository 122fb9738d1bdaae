"""What a manifest says of a bundle: sizes, settings, stages, graphs, files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, cast

from msgspec import Meta

from keyvid.bundle.files import sha256_of
from keyvid.sampling import Layout, Temporal

WeightsKind = Literal["trained", "random"]
Precision = Literal["fp32", "fp16"]
DType = Literal["float32", "int64"]
Form = Literal["plain", "cuda"]

# A size along an axis or a count; sums and products of some of them stay far from 2**63.
Count = Annotated[int, Meta(ge=1, lt=2**24)]
Bytes = Annotated[int, Meta(ge=0, lt=2**60)]
Flops = Annotated[int, Meta(ge=0, lt=2**60)]


@dataclass(frozen=True)
class Dimensions:
    """Sizes that the runtime needs; height and width in pixels, sample rate in Hz.

    `keyframe_fps` and `fps` are the frame rates that generator and interpolator are told,
    `mel_frames` and `localizer_frames` the spectrogram lengths of audio encoder and localizer,
    `vocabulary` the tokens that the text encoder knows.
    """

    height: Count
    width: Count
    frames: Count
    keyframes: Count
    fps: Count
    keyframe_fps: Count
    latent_channels: Count
    latent_height: Count
    latent_width: Count
    text_tokens: Count
    image_tokens: Count
    clip_image_size: Count
    frequency_patches: Count
    window: Count
    window_stride: Count
    sample_rate: Count
    mel_bins: Count
    mel_frames: Count
    localizer_frames: Count
    vocabulary: Count


@dataclass(frozen=True)
class Conditioning:
    """How the networks were conditioned in training.

    Attributes:
        layout: audio token layout, "paper" or "released".
        latent_scale: factor from the autoencoder's latent to the one that is diffused.
        latent_sample: whether the image latent is a sample of the posterior, else its mean.
        dynamic_rescale: s_T of the schedule's dynamic rescale.
    """

    layout: Layout
    latent_scale: Annotated[float, Meta(gt=0)]
    latent_sample: bool
    dynamic_rescale: Annotated[float, Meta(gt=0, le=1)]


@dataclass(frozen=True)
class Familiar:
    """What a small model was trained on; of other things it makes little sense.

    Attributes:
        prompts: words that it knows.
        picture_psnr_db: how well its autoencoder keeps a picture of its kind, at least.
    """

    prompts: tuple[str, ...]
    picture_psnr_db: float


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph: dtype ("float32" or "int64") and static shape."""

    dtype: DType
    shape: tuple[Count, ...]

    @classmethod
    def found(cls, dtype: str, shape: tuple[int, ...]) -> "TensorSpec":
        """That of a tensor of a caller or a backend, which may be of any type."""
        return cls(cast(DType, dtype), shape)

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


@dataclass(frozen=True)
class Check:
    """A call of the reference, see `keyvid.engines.verification`; arrays in base64, little-endian.

    Attributes:
        integers: int64 inputs by tensor name.
        outputs: float32 numbers spread over each output.
    """

    integers: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class GraphMemory:
    """Bytes that a graph needs in float32, told from its shapes.

    Attributes:
        weights: of all weights.
        cast: of those that are stored in another type.
        values: most at one time, where attention keeps no scores.
        scores: what is added where it does.
    """

    weights: Bytes
    cast: Bytes
    values: Bytes
    scores: Bytes


@dataclass(frozen=True)
class GraphSpec:
    """One ONNX graph of a stage.

    Attributes:
        file: name in the bundle.
        inputs, outputs: by tensor name.
        memory: what it needs, whatever an engine adds.
        flops: floating point operations of a call, None in bundles that do not state them.
        branches: guidance branches per call, None for a stage without branches.
        temporal: temporal attention, "full" or "windows", None where there is none.
        check: a call with known outcome, None if it was not verified.
        form: operators that it is made of, "plain" for every engine or those for one family of
            engines, see `keyvid.export.forms`.
    """

    file: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    memory: GraphMemory
    branches: Count | None = None
    temporal: Temporal | None = None
    check: Check | None = None
    form: Form = "plain"
    flops: Flops | None = None


@dataclass(frozen=True)
class HalfPrecision:
    """What stays in float32 in half-precision graphs, and the ranges that decided it.

    Attributes:
        largest: absolute value that the reference computes on real inputs; float16 ends at 65504.
        module: in which module, "" for the network itself.
        norm_squares: largest sum of squares behind a variance.
        norms: number of normalisations, all of which are in float32.
        islands: further modules in float32.
        rounding: relative error where each result is rounded to float16, as a GPU does it and
            ONNX Runtime's CPU provider does not; None where islands are.
    """

    largest: float
    module: str
    norm_squares: float
    norms: int
    islands: tuple[str, ...]
    rounding: float | None


@dataclass(frozen=True)
class StageSpec:
    """The graphs of one network.

    Attributes:
        precision: "fp32" or "fp16", what the graphs compute in.
        graphs: variants that share the stage's weights.
        error: largest relative error against the reference, None if not verified.
        half: ranges of half-precision graphs, None if they were not measured.
    """

    precision: Precision
    graphs: tuple[GraphSpec, ...]
    error: float | None = None
    half: HalfPrecision | None = None


@dataclass(frozen=True)
class FileSpec:
    """Size in bytes and sha256 (hex) of a file."""

    bytes: Bytes
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileSpec":
        """Size and hash of the file at `path`."""
        return cls(path.stat().st_size, sha256_of(path))


@dataclass(frozen=True)
class SourceSpec:
    """A file that weights were read from: size in bytes, sha256 (hex), and where it is published.

    Attributes:
        repository: on the Hugging Face Hub, None for a file that was given.
        revision: its commit.
        path: in the repository.
    """

    bytes: Bytes
    sha256: str
    repository: str | None = None
    revision: str | None = None
    path: str | None = None
