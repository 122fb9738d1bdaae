import torch

from keyvid_ref.resampler import ImageResampler, ResamplerConfig


def test_resampler_is_the_released_one(parity, parity_keys, fill, filled, relative_error):
    config = ResamplerConfig(
        width=64, depth=2, heads=4, head_channels=16, input_dim=80, output_dim=64
    )
    resampler = filled(ImageResampler(config))
    shapes = {key: tuple(value.shape) for key, value in resampler.state_dict().items()}
    assert shapes == parity_keys("image_resampler")
    tokens = torch.from_numpy(fill.tensor("image_resampler:x", (2, 257, 80)))
    with torch.no_grad():
        # float32 sums in another order: 4e-7 measured.
        assert relative_error(resampler(tokens), parity("image_resampler")["output"]) < 1e-5
