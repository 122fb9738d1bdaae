"""How far are clips of two bundles or engines apart? PSNR of the frames, and their keyframes.

\b
python bench/precision.py --bundle half-bundle               against the packaged float32 model
python bench/precision.py --bundle tiny --engine openvino-bf16
"""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from keyvid.engines.command import run_command
from keyvid.runtime.pipeline import Clip, Pipeline

_EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


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
@click.option("--seed", default=0, show_default=True, help="Of the sampling noise")
@click.argument("names", nargs=-1, metavar="[EXAMPLE]...")
def _precision(
    bundle: str,
    against: str,
    engine: str,
    against_engine: str,
    seed: int,
    names: tuple[str, ...],
) -> None:
    """Make the clips and print a line for each."""
    judged, right = Pipeline.load(bundle, engine), Pipeline.load(against, against_engine)
    names = names or tuple(sorted(path.stem for path in _EXAMPLES.glob("*.png")))
    click.echo(f"{'example':<12} {'PSNR':>8} {'worst frame':>12} {'largest':>8}   keyframes")
    for name in names:
        files = _EXAMPLES / f"{name}.png", _EXAMPLES / f"{name}.wav"
        clip, wanted = (p(*files, prompt=name, seed=seed) for p in (judged, right))
        click.echo(f"{name:<12} {format_difference(clip, wanted)}")


def format_difference(clip: Clip, wanted: Clip) -> str:
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
