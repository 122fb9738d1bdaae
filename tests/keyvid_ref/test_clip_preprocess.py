import pytest
import torch

from keyvid_ref.clip_preprocess import clip_preprocess


def test_clip_preprocess_is_the_released_one(parity, relative_error):
    data = parity("clip_preprocess")
    size = data["output"].shape[-1]
    pixels = clip_preprocess(torch.from_numpy(data["image"]), size)
    # The same operations in float32: only the order of sums differs.
    assert relative_error(pixels, data["output"]) < 1e-5


@pytest.mark.parametrize("shape", [(20, 30), (56, 56), (56, 200), (400, 30)])
def test_a_flat_image_stays_flat_at_any_size(shape):
    pixels = clip_preprocess(torch.zeros(1, 3, *shape), 56)
    assert pixels.shape == (1, 3, 56, 56)
    grey = (0.5 - torch.tensor([0.48145466, 0.4578275, 0.40821073])) / torch.tensor(
        [0.26862954, 0.26130258, 0.27577711]
    )
    torch.testing.assert_close(pixels, grey[None, :, None, None].expand_as(pixels))


def test_fine_stripes_are_blurred_away():
    stripes = torch.ones(1, 3, 448, 448)
    stripes[..., ::2] = -1
    assert clip_preprocess(stripes, 56).std(-1).max() < 0.1
