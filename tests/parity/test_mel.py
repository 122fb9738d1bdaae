import numpy as np
import torch

from keyvid.runtime.mel import log_mel
from keyvid_ref.mel import log_mel as reference_log_mel


def test_log_mel(relative_error):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000).astype(np.float32)
    assert relative_error(log_mel(wave), reference_log_mel(torch.from_numpy(wave))) < 1e-5
