"""Recordings that stand for real ones: a few bursts and tones, by family."""

from pathlib import Path

import numpy as np
import soundfile

from keyvid_ref.world.recordings import FAMILIES, LEAD_S, STRUCK

RATE = 16_000


def write_recordings(folder: Path) -> Path:
    """Two recordings of each family in `folder`, which is given back."""
    rng = np.random.default_rng(0)
    for family in FAMILIES:
        (folder / family).mkdir(parents=True)
        for number in range(2):
            time = np.arange(RATE // 4 if family in STRUCK else RATE) / RATE
            sound = np.sin(2 * np.pi * (200 + 300 * number) * time)
            if family in STRUCK:
                noise = rng.standard_normal(len(time)) * np.exp(-time / 0.03)
                sound = np.where(time < LEAD_S, 0, noise)
            elif family == "noise":
                sound = rng.standard_normal(len(time))
            path = folder / family / f"{number}.flac"
            soundfile.write(path, sound / np.abs(sound).max(), RATE)
    return folder
