"""The U-Net against the released module, its layout at full size, and its windowed attention."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from keyvid_ref.unet import UNet, UNetConfig
from keyvid_ref.unet_attention import SelfAttention, TemporalWindows

SMALL = UNetConfig(
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_downsampling=(1, 2),
    head_channels=16,
)
# float32 sums in another order: about 1e-6 here.
TOLERANCE = 1e-4


def test_generator_matches_the_release(filled, parity, parity_keys, fill, relative_error) -> None:
    unet = filled(UNet(SMALL))
    shapes = {key: tuple(value.shape) for key, value in unet.state_dict().items()}
    assert shapes == parity_keys("unet_generator")
    inputs = {"x": (2, 8, 4, 8, 12), "context": (2, 141, 1024), "c_audio": (2, 4, 12, 768)}
    latent, context, audio = (
        torch.from_numpy(fill.tensor(f"unet_generator:{name}", shape))
        for name, shape in inputs.items()
    )
    frame_index = torch.tensor([[0, 5, 17, 47], [0, 4, 8, 12]])
    with torch.no_grad():
        out = unet(
            latent, torch.tensor([999, 10]), context, audio, torch.tensor([6, 24]), frame_index
        )
    assert relative_error(out, parity("unet_generator")["output"]) < TOLERANCE


def test_interpolator_matches_the_release(filled, parity, fill, relative_error) -> None:
    unet = filled(UNet(replace(SMALL, frame_index=False)))
    inputs = {"x": (1, 8, 48, 4, 4), "context": (1, 845, 1024), "c_audio": (1, 48, 12, 768)}
    latent, context, audio = (
        torch.from_numpy(fill.tensor(f"unet_interpolator:{name}", shape))
        for name, shape in inputs.items()
    )
    with torch.no_grad():
        out = unet(latent, torch.tensor([500]), context, audio, torch.tensor([24]))
    assert relative_error(out, parity("unet_interpolator")["output"]) < TOLERANCE


@pytest.mark.parametrize("attention_downsampling", [(1, 2), (2,)])
def test_branches_share_what_they_are_not_told_apart_by(attention_downsampling) -> None:
    torch.manual_seed(0)
    config = replace(SMALL, attention_downsampling=attention_downsampling, context_dim=16)
    config = replace(config, text_tokens=3, image_tokens=2, audio_dim=8)
    unet = UNet(config).eval()
    latent, context, audio = (
        torch.randn(*shape) for shape in ((1, 8, 4, 8, 12), (3, 11, 16), (3, 4, 2, 8))
    )
    once = (torch.tensor([500]), torch.tensor([6]), torch.tensor([[0, 5, 17, 47]]))
    timestep, fps, index = (torch.cat([value] * 3) for value in once)
    with torch.no_grad():
        shared = unet(latent, once[0], context, audio, *once[1:])
        repeated = unet(latent.repeat(3, 1, 1, 1, 1), timestep, context, audio, fps, index)
    assert shared.shape == (3, 4, 4, 8, 12)
    torch.testing.assert_close(shared, repeated, rtol=1e-5, atol=1e-5)
    assert (shared[0] - shared[1]).abs().max() > 1e-2


def test_full_size_has_the_released_keys() -> None:
    lines = Path(__file__).parents[1].joinpath("fixtures/unet_generator.full_keys.tsv")
    released = dict(line.split("\t") for line in lines.read_text().splitlines())
    with torch.device("meta"):
        state = UNet(UNetConfig()).state_dict()
    assert {key: "x".join(map(str, value.shape)) for key, value in state.items()} == released


def test_windows_are_fused_by_the_pyramid() -> None:
    windows = TemporalWindows(48, 12, 6)
    starts = windows.split(torch.arange(48)[None, :, None])[:, 0, 0]
    assert starts.tolist() == [0, 6, 12, 18, 24, 30, 36]
    # One value per window: a frame then shows the pyramid-weighted mean of its windows' values.
    values = torch.arange(7.0)[:, None, None].expand(7, 12, 1)
    fused = windows.fuse(values)[0, :, 0]
    pyramid = np.minimum(np.arange(1, 13), np.arange(12, 0, -1))
    sums, weights = np.zeros(48), np.zeros(48)
    for i, start in enumerate(range(0, 37, 6)):
        sums[start : start + 12] += i * pyramid
        weights[start : start + 12] += pyramid
    np.testing.assert_allclose(fused, sums / weights, rtol=1e-6)


def test_windowed_attention_sees_only_its_windows() -> None:
    torch.manual_seed(0)
    attention, windows = SelfAttention(16, 2), TemporalWindows(48, 12, 6)
    x = torch.randn(3, 48, 16)
    changed = x.clone()
    changed[:, 30:] += 1
    with torch.no_grad():
        before, after = attention(x, windows), attention(changed, windows)
    moved = (before - after).abs().amax(dim=(0, 2)) > 1e-6
    # Frame 30 is first seen by the window that starts at frame 24.
    assert not moved[:24].any()
    assert moved[24:].all()


def test_windows_of_twelve_frames_are_full_attention() -> None:
    torch.manual_seed(0)
    config = replace(SMALL, frame_index=False)
    unet = UNet(config)
    inputs = (
        torch.randn(1, 8, 12, 4, 4),
        torch.tensor([500]),
        torch.randn(1, 77 + 12 * 16, 1024),
        torch.randn(1, 12, 12, 768),
        torch.tensor([24]),
    )
    with torch.no_grad():
        torch.testing.assert_close(unet(*inputs, temporal="windows"), unet(*inputs))


def test_frames_that_windows_do_not_cover_are_refused() -> None:
    for num_frames, window in ((47, 12), (44, 8)):
        with pytest.raises(ValueError, match=f"{num_frames} frames"):
            TemporalWindows(num_frames, window, 6)
