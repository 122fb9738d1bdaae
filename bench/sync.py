"""Score a bundle on held-out clips of the synthetic world: `python bench/sync.py`.

Each clip is made from a first frame and a sound whose event times are known; the motion of the
result is then measured on its frames alone. The true clips are scored by the same scorer, for the
best that can be reached with it.
"""

import json
from pathlib import Path

import click
import numpy as np
import sync_score as score

from keyvid.runtime import Pipeline, Settings
from keyvid_ref import world


@click.command()
@click.option("--bundle", default="tiny", show_default=True)
@click.option("--engine", default="auto", show_default=True)
@click.option("--clips", "num_clips", default=60, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Seed of the sampling noise.")
@click.option("--steps", type=int)
@click.option("--solver")
@click.option("--eta", type=float)
@click.option("--guidance-audio", type=float, help="Of both U-Nets.")
@click.option("--temporal")
@click.option("--keyframes", default="auto", show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the scores here.")
@click.option("--frames", "frames_path", type=click.Path(path_type=Path),
              help="Keep the generated frames as a .npy file.")  # fmt: skip
def main(
    bundle: str,
    engine: str,
    num_clips: int,
    seed: int,
    steps: int | None,
    solver: str | None,
    eta: float | None,
    guidance_audio: float | None,
    temporal: str | None,
    keyframes: str,
    json_path: Path | None,
    frames_path: Path | None,
) -> None:
    """Generate held-out clips with a bundle and score them against their events."""
    settings = Settings(
        steps=steps,
        solver=solver,
        eta=eta,
        guidance_audio=guidance_audio,
        guidance_audio_interpolator=guidance_audio,
        temporal=temporal,
    )
    pipeline = Pipeline.load(bundle, engine)
    size = pipeline.bundle.dimensions
    truth, made, covered, still_psnr, frames = [], [], [], [], []
    with click.progressbar(world.TEST_SEEDS[:num_clips], label="clips", file=_stderr()) as seeds:
        for clip_seed in seeds:
            clip = world.make_clip(clip_seed, size.height, size.width)
            result = pipeline(
                clip.frames[0],
                (clip.waveform, world.SAMPLE_RATE),
                prompt=clip.kind,
                seed=seed,
                settings=settings,
                keyframes=keyframes,
            )
            truth.append(_timed(clip.frames, clip.events))
            made.append(_timed(result.frames, clip.events))
            nearest = np.abs(result.keyframes[:, None] / world.FPS - clip.events).min(axis=0)
            covered += list(nearest <= 1.01 / world.FPS)
            still_psnr.append(_still_psnr(result.frames, clip.frames))
            frames.append(result.frames)
    if frames_path:
        np.save(frames_path, np.stack(frames))
    scores = {
        "clips": num_clips,
        "true clips": _summary(truth),
        "generated clips": _summary(made),
        "events within a frame of a keyframe": float(np.mean(covered)),
        "PSNR of what stands still, dB": float(np.median(still_psnr)),
    }
    click.echo(json.dumps(scores, indent=1))
    if json_path:
        json_path.write_text(json.dumps(scores, indent=1) + "\n")


def _summary(clips: list[score.TimedClip]) -> dict[str, object]:
    striking = [clip for clip in clips if len(clip.events)]
    silent = [clip for clip in clips if not len(clip.events)]
    summary: dict[str, object] = {}
    for tolerance in score.TOLERANCES_MS:
        # A frame's own rounding must not push a match of exactly n frames out of n frames.
        seconds = (tolerance + 0.5) / 1000
        value, chance = score.f1(striking, seconds), score.chance_f1(striking, seconds)
        low, high = score.f1_interval(striking, seconds)
        summary[f"F1 at {tolerance} ms"] = round(value, 3)
        summary[f"F1 at {tolerance} ms, 95 % interval"] = [round(low, 3), round(high, 3)]
        summary[f"F1 at {tolerance} ms, chance-corrected"] = round(
            score.corrected(value, chance), 3
        )
    summary["median error, ms"] = round(score.median_error_ms(striking, 0.1255), 1)
    if silent:
        strikes = [len(clip.peaks) for clip in silent]
        summary["strikes per clip without events"] = round(float(np.mean(strikes)), 2)
    return summary


def _timed(frames: np.ndarray, events: np.ndarray) -> score.TimedClip:
    peaks = score.motion_peaks(score.motion_curve(frames), world.FPS)
    return score.TimedClip(peaks, events, world.SECONDS)


def _still_psnr(frames: np.ndarray, true_frames: np.ndarray) -> float:
    """PSNR in dB against the first frame, where the true clip never changes."""
    still = (np.ptp(true_frames, axis=0) == 0).all(axis=-1)  # (H, W)
    error = frames[:, still].astype(np.float64) - true_frames[0, still]
    return float(10 * np.log10(255**2 / max((error**2).mean(), 1e-9)))


def _stderr() -> object:
    return click.get_text_stream("stderr")


if __name__ == "__main__":
    main()
