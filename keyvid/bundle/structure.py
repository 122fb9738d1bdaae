"""Whether a bundle holds what a clip is made with, and its parts fit each other.

A bundle of a few stages is a bundle too; this is asked of one that is to be run. The graphs are not
looked at: when they are opened, what they read is checked, and their tensors against the manifest.
"""

from collections import Counter
from collections.abc import Collection
from itertools import product
from math import prod

from keyvid.bundle.manifest import MANIFEST, Bundle
from keyvid.bundle.specs import DType, GraphSpec
from keyvid.bundle.tokenizer import TOKENIZER, tokenize
from keyvid.errors import BundleError, SettingsError
from keyvid.sampling import UNETS, Settings, resolve

Tensors = dict[str, tuple[DType, tuple[int | str, ...]]]

_SAMPLE_RATE = 16_000  # of the mel front end, Hz
_MIN_SECONDS = 0.025  # a frame of it
_OPTIONAL = ("localizer",)  # without it a clip has to be told where things move


def check_complete(bundle: Bundle) -> None:
    """Refuse a bundle that no clip can be made with.

    Raises:
        BundleError: says what is missing, or which two parts do not fit.
    """
    try:
        _check_sizes(bundle)
        _check_variants(bundle)
        _check_tensors(bundle)
        for quality in (None, *(bundle.qualities or {})):
            resolve(Settings(quality=quality), bundle.sampling, bundle.qualities)
        if TOKENIZER not in bundle.files:
            raise ValueError(f"{TOKENIZER} is not among files")
    except (ValueError, SettingsError) as error:
        manifest = bundle.path / MANIFEST
        raise BundleError(f"{manifest}: {error}; export it again with keyvid-export") from None
    size = bundle.dimensions
    tokenize(bundle.path / TOKENIZER, [""], size.text_tokens, size.vocabulary)


def _check_sizes(bundle: Bundle) -> None:
    size = bundle.dimensions
    if not 2 <= size.keyframes <= size.frames:
        raise ValueError(f"{size.keyframes} keyframes of {size.frames} frames, want at least 2")
    if size.sample_rate != _SAMPLE_RATE:
        raise ValueError(f"dimensions.sample_rate is {size.sample_rate}, want {_SAMPLE_RATE}")
    if size.localizer_frames > size.mel_frames:
        raise ValueError(
            f"localizer_frames is {size.localizer_frames}, more than mel_frames ({size.mel_frames})"
        )
    if size.frames / size.fps < _MIN_SECONDS:
        raise ValueError(f"{size.frames} frames at {size.fps} fps are too short to be heard")
    if (
        size.window > size.frames
        or size.window % size.window_stride
        or (size.frames % size.window_stride)
    ):
        raise ValueError(
            f"windows of {size.window} frames every {size.window_stride} do not fit {size.frames}"
        )


def _check_variants(bundle: Bundle) -> None:
    """Each stage is there, with the graphs that the runtime chooses from."""
    stages = _expected(bundle)
    needed = [name for name in stages if name not in _OPTIONAL]
    if missing := [name for name in needed if name not in bundle.stages]:
        raise ValueError(f"a clip needs the stages {', '.join(missing)} as well")
    if unknown := [name for name in bundle.stages if name not in stages]:
        raise ValueError(f"unknown stage {unknown[0]!r:.40}; valid are {', '.join(stages)}")
    for name, stage in bundle.stages.items():
        branches: Collection[int | None] = bundle.branches(name) if name in UNETS else [None]
        modes = {graph.temporal for graph in stage.graphs if graph.temporal}
        want = Counter(product(branches, modes if name == "interpolator" else {None}))
        for form in ("plain", *{graph.form for graph in stage.graphs} - {"plain"}):
            variants = [(g.branches, g.temporal) for g in stage.graphs if g.form == form]
            if Counter(variants) != want:
                found = ", ".join(f"{number}/{mode}" for number, mode in variants)
                raise ValueError(
                    f"stages.{name} has {form} graphs for branches/temporal {found}, want one of "
                    "each"
                )
    interpolator = bundle.stages["interpolator"].graphs
    if bundle.sampling.temporal not in {graph.temporal for graph in interpolator}:
        raise ValueError(f"the interpolator has no graph for temporal {bundle.sampling.temporal}")


def _check_tensors(bundle: Bundle) -> None:
    """Tensors of all graphs are those that the dimensions give; tokens have one width in all."""
    known: dict[str, int] = {}
    for name, tensors in _expected(bundle).items():
        graphs = bundle.stages[name].graphs if name in bundle.stages else ()
        for graph in graphs:
            of_graph = {} if graph.branches is None else {"branches": graph.branches}
            _check_graph(graph, tensors, known, of_graph)


def _check_graph(
    graph: GraphSpec, tensors: Tensors, known: dict[str, int], of_graph: dict[str, int]
) -> None:
    """Compare a graph with `tensors`; sizes with a name are taken down in `known` or `of_graph`."""
    stated = graph.inputs | graph.outputs
    if odd := stated.keys() ^ tensors.keys():
        raise ValueError(f"{graph.file} has tensors {', '.join(stated)}; {min(odd)!r:.40} is wrong")
    for name, (dtype, shape) in tensors.items():
        found = stated[name]
        if len(found.shape) == len(shape):
            for size, symbol in zip(found.shape, shape, strict=True):
                if isinstance(symbol, str):
                    (known if symbol.endswith("width") else of_graph).setdefault(symbol, size)
        sizes = known | of_graph
        want = tuple(sizes.get(size, 0) if isinstance(size, str) else size for size in shape)
        if (found.dtype, found.shape) != (dtype, want):
            words = " x ".join(map(str, want))
            raise ValueError(
                f"{graph.file}: {name} is {found.dtype} {' x '.join(map(str, found.shape))}, the "
                f"dimensions and the other graphs say {dtype} {words}"
            )
    if graph.memory.values < sum(4 * prod(tensor.shape) for tensor in graph.outputs.values()):
        raise ValueError(f"{graph.file}: memory.values is less than the output takes")


def _expected(bundle: Bundle) -> dict[str, Tensors]:
    """Inputs and outputs of each stage; a size with a name is the same wherever it stands.

    Names that end with "width" hold for the whole bundle, the others for a graph.
    """
    size = bundle.dimensions
    latent = (size.latent_channels, size.latent_height, size.latent_width)
    patches = size.frequency_patches
    picture = ("batch", 3, size.height, size.width)
    return {
        "text_encoder": {
            "tokens": ("int64", ("batch", size.text_tokens)),
            "text": ("float32", ("batch", size.text_tokens, "token width")),
        },
        "image_encoder": {
            "pixels": ("float32", ("batch", 3, size.clip_image_size, size.clip_image_size)),
            "image_tokens": (
                "float32",
                ("batch", size.frames * size.image_tokens, "token width"),
            ),
        },
        "audio_encoder": {
            "mel": ("float32", ("batch", 1, size.mel_bins, size.mel_frames)),
            "audio_tokens": ("float32", ("batch", 1 + patches * size.frames, "audio width")),
        },
        "localizer": {
            "mel": ("float32", ("batch", 1, size.mel_bins, size.localizer_frames)),
            "motion": ("float32", ("batch", size.frames)),
        },
        "vae_encoder": {
            "image": ("float32", picture),
            "moments": ("float32", ("batch", 2 * latent[0], *latent[1:])),
        },
        "generator": {
            **_unet(bundle, size.keyframes),
            "frame_index": ("int64", (1, size.keyframes)),
        },
        "interpolator": _unet(bundle, size.frames),
        "vae_decoder": {
            "latent": ("float32", ("batch", *latent)),
            "image": ("float32", picture),
        },
    }


def _unet(bundle: Bundle, frames: int) -> Tensors:
    """What both U-Nets take and give, for that many frames."""
    size = bundle.dimensions
    channels, shape = size.latent_channels, (frames, size.latent_height, size.latent_width)
    audio_tokens = size.frequency_patches + (bundle.conditioning.layout == "paper")
    context_tokens = size.text_tokens + frames * size.image_tokens
    return {
        "latent": ("float32", (1, 2 * channels, *shape)),
        "timestep": ("int64", (1,)),
        "context": ("float32", ("branches", context_tokens, "token width")),
        "audio": ("float32", ("branches", frames, audio_tokens, "audio width")),
        "fps": ("int64", (1,)),
        "velocity": ("float32", ("branches", channels, *shape)),
    }
