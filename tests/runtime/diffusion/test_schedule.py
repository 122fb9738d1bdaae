import math

import numpy as np
import pytest

from keyvid.runtime.diffusion.denoise import Walk, denoise
from keyvid.runtime.diffusion.noise import seeded
from keyvid.runtime.diffusion.schedule import (
    SOLVERS,
    alphas_cumprod,
    ddim,
    dpm_solver,
    dynamic_rescale,
    trailing_timesteps,
)

FLOOR = 0.7


def test_levels(parity, relative_error):
    data = parity("schedule")
    assert relative_error(alphas_cumprod(), data["alphas_cumprod"]) < 1e-6  # stored in float32
    assert alphas_cumprod()[-1] == 0
    assert np.array_equal(dynamic_rescale(FLOOR), data["rescale"])


@pytest.mark.parametrize("steps", [25, 90])
@pytest.mark.parametrize("eta", [0, 1])
def test_ddim_fixture(steps, eta, parity):
    data = parity("schedule")
    table = ddim(trailing_timesteps(steps), eta, FLOOR)[::-1]
    assert [step.timestep for step in table] == data[f"timesteps_{steps}"].tolist()
    signal = np.array([step.signal for step in table])
    noise = np.array([step.from_noise for step in table])
    # Stored in float32.
    assert np.allclose(signal**2, data[f"alphas_{steps}"], rtol=0, atol=1e-6)
    assert np.allclose(noise, data[f"sigmas_{steps}_eta{eta}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 48, 97, 999, 1000])
@pytest.mark.parametrize("spacing", [1, 1.8, 4])
def test_any_number_of_steps(solver, steps, spacing):
    timesteps = trailing_timesteps(steps, spacing)
    assert len(timesteps) == steps
    assert timesteps[0] == 999
    assert (np.diff(timesteps) < 0).all()
    assert timesteps[-1] >= 0
    assert np.isfinite(SOLVERS[solver](timesteps, 1.0, FLOOR)).all()


def test_spacing_puts_steps_near_the_clip():
    assert trailing_timesteps(5).tolist() == [999, 799, 599, 399, 199]
    assert trailing_timesteps(5, 2.0).tolist() == [999, 639, 359, 159, 39]


def velocity(latent, timestep):
    """Some smooth function of both, in the latent's precision."""
    return np.tanh(0.5 * latent + math.sin(timestep / 100))


def test_ddim_is_the_textbook_loop():
    """Against the formula of the step as it stands in the model's description, in float64."""
    steps, eta = 13, 0.6
    alphas, rescale = alphas_cumprod(), dynamic_rescale(FLOOR)
    rng = seeded(0)
    start = rng.standard_normal((2, 3), np.float32)
    latent = start.astype(np.float64)
    timesteps = trailing_timesteps(steps, 1.3).tolist()
    for index, t in enumerate(timesteps):
        is_last = index == steps - 1
        after = 0 if is_last else timesteps[index + 1]
        a, b = alphas[t], alphas[after]
        sigma = eta * np.sqrt((1 - b) / (1 - a)) * np.sqrt(1 - a / b)
        v = velocity(latent, t)
        clean = np.sqrt(a) * latent - np.sqrt(1 - a) * v
        clean *= 1 if is_last else rescale[after] / rescale[t]
        noise = np.sqrt(a) * v + np.sqrt(1 - a) * latent
        fresh = rng.standard_normal((2, 3), np.float32)
        latent = np.sqrt(b) * clean + np.sqrt(1 - b - sigma**2) * noise + sigma * fresh
    rng = seeded(0)
    rng.standard_normal((2, 3), np.float32)
    got = denoise(velocity, Walk.begin(start), ddim(np.array(timesteps), eta, FLOOR), rng)
    assert np.abs(got - latent).max() < 1e-5  # float32 against float64 over 13 steps


@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_dpm_solver_is_the_textbook_loop(steps):
    """Algorithm 2 of the paper in float64, with log-SNR -inf at the start written out."""
    alphas, rescale = alphas_cumprod(), dynamic_rescale(FLOOR)
    start = seeded(0).standard_normal((2, 3), np.float32)
    latent = start.astype(np.float64)
    timesteps = trailing_timesteps(steps, 1.3).tolist()
    history: list[tuple[float, np.ndarray]] = []  # (log-SNR / 2, data prediction)
    for index, t in enumerate(timesteps):
        after = timesteps[index + 1] if index + 1 < steps else 0
        alpha, sigma = rescale[t] * math.sqrt(alphas[t]), math.sqrt(1 - alphas[t])
        alpha_after = rescale[after] * math.sqrt(alphas[after])
        sigma_after = math.sqrt(1 - alphas[after])
        clean = math.sqrt(alphas[t]) * latent - sigma * velocity(latent, t)
        data = clean / rescale[t]
        if alpha == 0:
            latent = sigma_after / sigma * latent + alpha_after * data
            history.append((-math.inf, data))
            continue
        log_snr, log_snr_after = math.log(alpha / sigma), math.log(alpha_after / sigma_after)
        h = log_snr_after - log_snr
        used = data
        before, data_before = history[-1]
        if index < steps - 1 and before > -math.inf:
            r = (log_snr - before) / h
            used = (1 + 1 / (2 * r)) * data - data_before / (2 * r)
        latent = sigma_after / sigma * latent - alpha_after * (math.exp(-h) - 1) * used
        history.append((log_snr, data))
    got = denoise(
        velocity, Walk.begin(start), dpm_solver(np.array(timesteps), 1.0, FLOOR), seeded(1)
    )
    assert np.abs(got - latent).max() < 1e-5  # float32 against float64


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_agree_where_the_answer_is_known(solver):
    """For Gaussian data of one mean the exact velocity is known and both solvers must reach it."""
    alphas, rescale = alphas_cumprod(), dynamic_rescale(FLOOR)
    mean = 0.8

    def exact(latent, timestep):
        signal, sigma = math.sqrt(alphas[timestep]), math.sqrt(1 - alphas[timestep])
        target = rescale[timestep] * mean
        return (signal * latent - target) / sigma if sigma else -target

    start = seeded(3).standard_normal((1, 4), np.float32)
    got = denoise(
        exact, Walk.begin(start), SOLVERS[solver](trailing_timesteps(50), 0.0, FLOOR), seeded(4)
    )
    # Left over: noise of timestep 0 (3 %); ddim also keeps the rescale of its last step (1.4 %).
    assert np.abs(got - mean).max() < 0.12


def test_only_rows_with_noise_draw_noise():
    start = np.zeros((1, 2), np.float32)
    for solver, eta, draws in (("ddim", 1.0, 4), ("ddim", 0.0, 0), ("dpm", 1.0, 0)):
        rng, count = seeded(0), seeded(0)
        denoise(
            velocity, Walk.begin(start), SOLVERS[solver](trailing_timesteps(4), eta, FLOOR), rng
        )
        for _ in range(draws):
            count.standard_normal((1, 2), np.float32)
        assert rng.bit_generator.state == count.bit_generator.state
