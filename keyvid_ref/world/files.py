"""Clips of the synthetic world as files: `python -m keyvid_ref.world FOLDER`."""

import json
from pathlib import Path

import click
import soundfile
from PIL import Image

from keyvid_ref.presets import PRESETS
from keyvid_ref.world import world


def write_clip(clip: world.WorldClip, folder: Path, name: str) -> None:
    """Write the first frame, the sound and what is known: NAME.png, NAME.wav, NAME.json.

    What is known is what `keyvid-score` wants beside a clip that is made of the two.
    """
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(clip.frames[0]).save(folder / f"{name}.png")
    soundfile.write(folder / f"{name}.wav", clip.waveform, world.SAMPLE_RATE)
    facts = {
        "kind": clip.kind,
        "event": world.KINDS[clip.kind].event,
        "events_s": [round(float(event), 4) for event in clip.events],
    }
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(list(world.KINDS)), multiple=True, help="Default: all.")
@click.option("--seed", default=world.TEST_SEEDS[0], show_default=True, help="Seed of the clips.")
@click.option("--seconds", default=world.SECONDS, show_default=True, help="Length of the clips.")
def main(folder: Path, kind: tuple[str, ...], seed: int, seconds: float) -> None:
    """Write one clip of each kind into FOLDER: first frame, sound and the events' times."""
    height, width = PRESETS["tiny"].height, PRESETS["tiny"].width
    for name in kind or world.KINDS:
        clip = world.make_clip(seed, height, width, kind=name, seconds=seconds)
        write_clip(clip, folder, name)
