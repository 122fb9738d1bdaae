"""The judge of the fixture `avsync`: its released folder, filled from names alone."""

from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from keyvid_ref.checkpoint import AVSYNC_FOLDERS
from keyvid_ref.presets import AVSYNC
from keyvid_ref.weights import outline_network


def filled_state(network: str, fill: ModuleType) -> dict[str, Tensor]:
    """State dict of a network of the judge, as README.md beside the fixture says."""
    state = {}
    for key, value in outline_network(AVSYNC, network).state_dict().items():
        name, shape = f"{AVSYNC_FOLDERS[network]}.{key}", tuple(value.shape)
        if key.endswith("running_var"):
            made = 1 + np.abs(0.1 * fill.tensor(name, shape))
        else:
            made = fill.parameter(name, shape)
        state[key] = torch.from_numpy(np.asarray(made)).to(value.dtype)
    return state


def write_release(folder: Path, fill: ModuleType) -> Path:
    """The judge in `folder` as it is released: a folder for each part, with a pickled state."""
    for network, name in AVSYNC_FOLDERS.items():
        (folder / name).mkdir(parents=True)
        path = folder / name / "diffusion_pytorch_model.bin"
        torch.save(filled_state(network, fill), path)
    return folder
