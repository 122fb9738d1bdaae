import numpy as np
import scipy.signal

from keyvid.runtime.diffusion.keyframes import find_peaks, select_keyframes
from keyvid_ref.keyframes import select_keyframes as reference_select_keyframes


def test_peaks_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for trial in range(500):
        curve = rng.standard_normal(rng.integers(1, 50))
        if trial % 2:  # plateaus; not of equal height, where scipy depends on an unstable sort
            curve = np.repeat(curve, rng.integers(1, 5, len(curve)))
        distance, prominence = int(rng.integers(1, 8)), float(rng.choice([0, 0.1, 1]))
        want, _ = scipy.signal.find_peaks(curve, distance=distance, prominence=prominence)
        assert find_peaks(curve, distance, prominence).tolist() == want.tolist()


def test_selection_is_that_of_the_reference():
    rng = np.random.default_rng(2)
    for trial in range(500):
        noise = rng.standard_normal(48)
        motion = noise if trial % 2 else np.convolve(noise, np.ones(5), "same")
        num_keyframes = int(rng.integers(2, 13))
        want = reference_select_keyframes(motion.astype(np.float32), num_keyframes)
        got = select_keyframes(motion.astype(np.float32), num_keyframes)
        assert got.tolist() == want.tolist()
