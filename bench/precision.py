"""How far are clips of two bundles or engines apart? PSNR of the frames, and their keyframes.

\b
python bench/precision.py --bundle half-bundle               against the packaged float32 model
python bench/precision.py --bundle tiny --engine openvino-bf16
python bench/precision.py --bundle tiny --rounded            the reference, each result in float16
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import click
import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.command import run_command
from keyvid.export import rounding
from keyvid.export.source import Source
from keyvid.runtime.picture import load_image
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.sound import load_sound, to_mono
from keyvid_ref.pipeline import ReferencePipeline
from keyvid_ref.presets import PRESETS

_EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


class Film(Protocol):
    """What is compared of a clip: (T, H, W, 3) uint8 frames and (K,) keyframes."""

    frames: np.ndarray
    keyframes: np.ndarray


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code, see `run_command`."""
    return run_command(_precision, "bench/precision.py", args)


@click.command(
    help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--bundle", required=True, help="Model to judge: a name or a folder")
@click.option("--against", default="tiny", show_default=True, help="Model that is taken as right")
@click.option("--engine", default="onnxruntime", show_default=True, help="Of the first")
@click.option("--against-engine", default="onnxruntime", show_default=True, help="Of the second")
@click.option("--rounded", is_flag=True, help="Compare the reference with itself, rounded to fp16")
@click.option("--seed", default=0, show_default=True, help="Of the sampling noise")
@click.argument("names", nargs=-1, metavar="[EXAMPLE]...")
def _precision(
    bundle: str,
    against: str,
    engine: str,
    against_engine: str,
    rounded: bool,
    seed: int,
    names: tuple[str, ...],
) -> None:
    """Make the clips and print a line for each."""
    make_pair: Callable[[str], tuple[Film, Film]]
    if rounded:
        make_pair = partial(reference_clips, bundle, seed)
    else:
        pipelines = Pipeline.load(bundle, engine), Pipeline.load(against, against_engine)
        make_pair = partial(runtime_clips, pipelines, seed)
    names = names or tuple(sorted(path.stem for path in _EXAMPLES.glob("*.png")))
    click.echo(f"{'example':<12} {'PSNR':>8} {'worst frame':>12} {'largest':>8}   keyframes")
    for name in names:
        click.echo(f"{name:<12} {format_difference(*make_pair(name))}")


def runtime_clips(pipelines: tuple[Pipeline, Pipeline], seed: int, name: str) -> tuple[Film, Film]:
    """An example by both pipelines."""
    files = _EXAMPLES / f"{name}.png", _EXAMPLES / f"{name}.wav"
    first, second = (pipeline(*files, prompt=name, seed=seed) for pipeline in pipelines)
    return first, second


def reference_clips(bundle: str, seed: int, name: str) -> tuple[Film, Film]:
    """An example by the reference with the weights of `bundle`: rounded to float16, and as it is.

    The networks are rounded, as they are exported; sampling stays in float32.
    """
    manifest = Bundle.load(bundle)
    size = manifest.dimensions
    seconds = size.frames / size.fps
    image = load_image(_EXAMPLES / f"{name}.png", size.height, size.width)
    sound = load_sound(_EXAMPLES / f"{name}.wav", seconds, 0.0)
    waveform = to_mono(sound, size.sample_rate, seconds)
    preset = PRESETS[manifest.preset]
    clips = []
    for wrap in (rounding.rounded, lambda call: call):
        networks, tokenizer = Source.open(preset, bundle).load()
        for network in vars(networks).values():
            network.forward = wrap(network.forward)
        vae = networks.vae
        vae.encode_moments, vae.decode = wrap(vae.encode_moments), wrap(vae.decode)
        pipeline = ReferencePipeline(networks, preset, tokenizer)
        clips.append(pipeline(image, waveform, prompt=name, seed=seed))
    return clips[0], clips[1]


def format_difference(clip: Film, wanted: Film) -> str:
    """PSNR in dB of all frames and of the worst, largest difference of a pixel, keyframes."""
    frames = psnr(clip.frames, wanted.frames)
    worst = min(map(psnr, clip.frames, wanted.frames))
    largest = np.abs(clip.frames.astype(int) - wanted.frames).max()
    same = "same" if np.array_equal(clip.keyframes, wanted.keyframes) else "differ"
    return f"{frames:>5.1f} dB {worst:>9.1f} dB {largest:>8}   {same}"


def psnr(got: np.ndarray, want: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of uint8 pixels, infinite where all are the same."""
    error = float(np.square(got.astype(np.float64) - want).mean())
    return 10 * np.log10(255**2 / error) if error else float("inf")


if __name__ == "__main__":
    raise SystemExit(main())
