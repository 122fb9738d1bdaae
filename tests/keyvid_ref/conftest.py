"""Networks with weights made from their names, as those had that the fixtures come from."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def filled(fill: ModuleType) -> Callable[[torch.nn.Module], torch.nn.Module]:
    """`filled(module)`: the module in evaluation mode, its weights made from their names."""

    def fill_module(module: torch.nn.Module) -> torch.nn.Module:
        state = {
            key: torch.from_numpy(np.asarray(fill.parameter(key, tuple(value.shape))))
            for key, value in module.state_dict().items()
        }
        module.load_state_dict(state)
        return module.eval()

    return fill_module
