"""`keyvid-infer`: the command line around `keyvid.runtime.pipeline`.

The pipeline and its libraries are imported when a clip is made, so that `--help` comes at once.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from keyvid.command import CONTEXT, common_options, run_command
from keyvid.runtime.outputs import check_output
from keyvid.sampling import options as sampling_options
from keyvid.sampling import settings_from

_FILE = click.Path(path_type=Path)
_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}


class _Bytes(click.ParamType[int]):
    """A number of bytes such as 12G, 800M or 2000000000."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)B?", str(value).upper())
        if not found or not float(found[1]):
            self.fail(f"{value!r} is no size; write it as 12G or 800M", param, ctx)
        return round(float(found[1]) * _UNITS.get(found[2], 1))


def main(args: Sequence[str] | None = None) -> int:
    """Run `keyvid-infer` and give its exit code, see `run_command`."""
    return run_command(_infer, "keyvid-infer", args)


def _sampling_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(list(sampling_options())):
        name = f"--{option.name.replace('_', '-')}"
        text = option.help + " [default: the bundle's]"
        command = click.option(name, type=option.kind, help=text)(command)
    return command


@click.command(context_settings=CONTEXT)
@click.argument("image", type=_FILE)
@click.argument("audio", type=_FILE)
@click.option("-o", "--output", type=_FILE, help="MP4 to write [default: IMAGE's name with .mp4]")
@click.option("--prompt", default="", help="What is seen and heard, in a few words")
@click.option("--start", default=0.0, show_default=True, help="Second of AUDIO to begin at")
@click.option("--seed", default=0, show_default=True, help="Of all noise: same seed, same clip")
@click.option("--keyframes", default="auto", show_default=True, help="auto, uniform or 0,3,...")
@_sampling_options
@click.option(
    "--cfg-batch", type=int, help="Guidance branches per call [default: what the memory allows]"
)
@click.option(
    "--max-memory", type=_Bytes(), help="Memory to take at most, as 12G [default: what is free]"
)
@click.option("--bundle", default="tiny", show_default=True, help="Model: a name or a folder")
@click.option("--engine", default="auto", show_default=True, help="As keyvid-doctor lists them")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads [default: all cores]")
@click.option("--report", type=_FILE, help="JSON to write: timings, memory, versions, settings")
@click.option("--plot", type=_FILE, help="PNG to write: sound, motion, keyframes, all frames")
@common_options
def _infer(
    image: Path,
    audio: Path,
    output: Path | None,
    report: Path | None,
    plot: Path | None,
    bundle: str,
    engine: str,
    threads: int | None,
    max_memory: int | None,
    prompt: str,
    start: float,
    seed: int,
    keyframes: str,
    **settings: Any,
) -> None:
    """Animate the picture IMAGE to the sound AUDIO (or the sound of a video)."""
    output = output or Path(image.with_suffix(".mp4").name)
    for path, suffix in ((output, ".mp4"), (report, ".json"), (plot, ".png")):
        if path:
            check_output(path, suffix, inputs=(image, audio))

    from keyvid.runtime.pipeline import Pipeline
    from keyvid.runtime.plot import write_plot
    from keyvid.runtime.report import write_report

    pipeline = Pipeline.load(bundle, engine, threads=threads, max_memory=max_memory)
    wanted = [path for path in (output, report, plot) if path]
    with _told_what_is_written(wanted) as written, _ProgressBars() as progress:
        clip = pipeline(
            image,
            audio,
            prompt=prompt,
            seed=seed,
            settings=settings_from(settings, settings.pop("cfg_batch")),
            keyframes=keyframes,
            start=start,
            progress=progress,
        )
        clip.save(output)
        written.append(output)
        if report:
            files = {"image": str(image), "audio": str(audio), "output": str(output)}
            write_report(report, clip, pipeline, {**files, "start": start, "keyframes": keyframes})
            written.append(report)
        if plot:
            write_plot(plot, clip, f"{image.name} + {audio.name}")
            written.append(plot)
    seconds = sum(clip.timings.values())
    engine_used = f"{pipeline.engine.name} ({pipeline.engine.reason})"
    click.echo(f"{len(clip.frames)} frames in {seconds:.1f} s with {engine_used}", err=True)
    click.echo(output)


@contextmanager
def _told_what_is_written(wanted: list[Path]) -> Iterator[list[Path]]:
    """A list to append to; after an interruption the user is told what is in it and what is not."""
    written: list[Path] = []
    try:
        yield written
    except KeyboardInterrupt as stop:
        missing = " and ".join(str(path) for path in wanted if path not in written)
        have = " and ".join(map(str, written))
        stop.add_note(f"{have} written, not {missing}" if have else "nothing written")
        raise


class _ProgressBars:
    """A bar per stage on stderr; where that is no terminal, a line per stage."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._finish()
            self._stage = stage
            self._bar = click.progressbar(length=total, label=f"{stage:13}", file=sys.stderr)
            self._bar.render_progress()
        self._bar.update(done - self._bar.pos)

    def __enter__(self) -> "_ProgressBars":
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()

    def _finish(self) -> None:
        if self._bar:
            self._bar.render_finish()
            self._bar = None
