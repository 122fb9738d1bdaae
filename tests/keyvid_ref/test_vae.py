import pytest
import torch

from keyvid_ref.vae import VAE, VAEConfig


def test_vae_is_the_released_one(parity, parity_keys, fill, filled, relative_error):
    vae = filled(VAE(VAEConfig(channels=32)))
    assert {k: tuple(v.shape) for k, v in vae.state_dict().items()} == parity_keys("vae")
    image = torch.from_numpy(fill.tensor("vae:image", (2, 3, 32, 48)))
    latent = torch.from_numpy(fill.tensor("vae:latent", (2, 4, 4, 6)))
    expected = parity("vae")
    with torch.no_grad():
        # float32 sums in another order: 1e-6 measured.
        assert relative_error(vae.encode_moments(image), expected["moments"]) < 1e-5
        assert relative_error(vae.decode(latent), expected["decoded"]) < 1e-5


@pytest.fixture
def small_vae(filled):
    return filled(
        VAE(VAEConfig(8, (1, 2), num_res_blocks=1, latent_channels=3, norm_groups=2, patch_size=4))
    )


def test_patches_downsample_further(small_vae):
    image = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        moments = small_vae.encode_moments(image)
        assert moments.shape == (2, 6, 2, 3)
        assert small_vae.config.downsampling == 8
        assert small_vae.decode(moments[:, :3]).shape == image.shape


def test_folding_statistics_standardises_latents_and_keeps_decoding(small_vae):
    image = torch.randn(4, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before_mean, before_log_variance = small_vae.encode_moments(image).chunk(2, dim=1)
        decoded = small_vae.decode(before_mean)
        mean, std = before_mean.mean(dim=(0, 2, 3)), before_mean.std(dim=(0, 2, 3))
        small_vae.fold_latent_statistics(mean, std)
        after_mean, after_log_variance = small_vae.encode_moments(image).chunk(2, dim=1)
        decoded_after = small_vae.decode(after_mean)
    # An affine map in float32: rounding only.
    torch.testing.assert_close(after_mean.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(after_mean.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-5, rtol=0)
    shrink = 2 * std.log()[:, None, None]
    torch.testing.assert_close(after_log_variance, before_log_variance - shrink)
    torch.testing.assert_close(decoded_after, decoded, atol=1e-4, rtol=1e-4)
