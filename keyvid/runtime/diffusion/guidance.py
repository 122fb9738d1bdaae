"""Classifier-free guidance as a row of weights over the branches of one batched call."""

from collections.abc import Mapping

import numpy as np

from keyvid.runtime.diffusion.denoise import Velocity
from keyvid.runtime.diffusion.schedule import trailing_timesteps
from keyvid.runtime.networks.stages import OpenStage
from keyvid.sampling import UNETS, Sampling, UNetSampling


def branch_weights(image: float, text: float, audio: float) -> np.ndarray:
    """(4,) float64 weights that sum to 1, one for each of `conditioning.BRANCHES`.

    v = none + image (i - none) + text (it - i) + audio (ita - it), sorted by branch.
    """
    return np.array([1 - image, image - text, text - audio, audio])


def combine(velocities: np.ndarray, weights: np.ndarray, rescale: float) -> np.ndarray:
    """Weighted sum of the branches, its spread pulled back to that of the last branch.

    The rescale mixes `rescale` parts of the sum, scaled to the last branch's standard deviation
    (unbiased, over everything), with 1 - `rescale` parts of the sum as it is ("Common Diffusion
    Noise Schedules and Sample Steps are Flawed", section 3.4).

    Args:
        velocities: (B, C, F, H, W) float32, one clip's branches; the last is the most conditioned.
        weights: (B,) weight of each branch.
        rescale: 0 (off) .. 1.
    Returns:
        (1, C, F, H, W) float32.
    """
    guided = np.tensordot(weights.astype(np.float32), velocities, axes=1)[np.newaxis]
    ratio = float(velocities[-1].std(ddof=1) / guided.std(ddof=1))
    return np.asarray(guided * (rescale * ratio + 1 - rescale))


def guidance_rows(sampling: UNetSampling) -> dict[int, np.ndarray]:
    """(4,) weights of the branches for each timestep that is sampled, see `branch_weights`."""
    timesteps = trailing_timesteps(sampling.steps, sampling.spacing).tolist()
    return {timestep: branch_weights(*sampling.scales(timestep)) for timestep in timesteps}


def active_branches(weights: np.ndarray) -> tuple[int, ...]:
    """Which of `keyvid.runtime.diffusion.conditioning.BRANCHES` have to be run, ascending.

    The last is always among them: the rescale takes its spread, whatever its weight.

    Args:
        weights: (4,) of all.
    """
    return tuple(np.flatnonzero([*(weights[:-1] != 0), True]).tolist())


def count_branches(sampling: Sampling) -> dict[str, int]:
    """Of each U-Net the most branches that a step has to run."""
    rows = {unet: guidance_rows(sampling.of(unet)).values() for unet in UNETS}
    return {unet: max(len(active_branches(row)) for row in rows[unet]) for unet in UNETS}


def guided_velocity(
    unet: OpenStage,
    rows: Mapping[int, np.ndarray],
    rescale: float,
    *,
    condition: np.ndarray,
    context: np.ndarray,
    audio: np.ndarray,
    **shared: np.ndarray,
) -> Velocity:
    """The velocity that the denoise loop asks for.

    Only branches with a weight are run. Where a step takes other ones than the step before, the
    stage changes to the graph that suits their number.

    Args:
        rows: (4,) weights of the branches by timestep.
        condition: (1, C, F, H, W) latents beside the noisy ones, the same in each branch.
        context: (4, N, D) text and image tokens per branch.
        audio: (4, F, n, A) audio tokens per branch.
        shared: inputs without a batch axis that are the same in each branch.
    """
    fixed = {name: value[np.newaxis] for name, value in shared.items()}
    active: tuple[int, ...] = ()
    calls: list[dict[str, np.ndarray]] = []

    def velocity(latent: np.ndarray, timestep: int) -> np.ndarray:
        nonlocal active, calls
        wanted = active_branches(rows[timestep])
        if wanted != active:
            active, calls = wanted, _bind(unet, wanted, context, audio, fixed)
        noisy = np.concatenate([latent, condition], axis=1)
        when = np.array([timestep], np.int64)
        outputs = [unet(latent=noisy, timestep=when, **inputs) for inputs in calls]
        velocities = np.concatenate(outputs)[: len(active)]
        return combine(velocities, rows[timestep][list(active)], rescale)

    return velocity


def _bind(
    unet: OpenStage,
    active: tuple[int, ...],
    context: np.ndarray,
    audio: np.ndarray,
    fixed: dict[str, np.ndarray],
) -> list[dict[str, np.ndarray]]:
    """The inputs of each network call of a step, but for what `unet` now has bound.

    Inputs that stay the same from step to step are bound once; what is the same in each branch
    crosses once for all. A last call with too few branches repeats one.
    """
    batch = unet.use(len(active))
    num_calls = -(-len(active) // batch)
    branches = np.array(active)[np.arange(num_calls * batch).clip(max=len(active) - 1)]
    calls = [
        {"context": context[part], "audio": audio[part]} for part in branches.reshape(-1, batch)
    ]
    if num_calls == 1:
        fixed = {**fixed, **calls.pop()}
        calls.append({})
    unet.bind(**fixed)
    return calls
