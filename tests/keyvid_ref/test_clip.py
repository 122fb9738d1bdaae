import torch

from keyvid_ref.clip import ClipText, ClipTextConfig, ClipVision, ClipVisionConfig


def test_text_encoder_is_the_released_one(parity, parity_keys, filled, relative_error):
    text = filled(
        ClipText(ClipTextConfig(vocab_size=512, width=64, layers=3, heads=4, embed_dim=64))
    )
    assert {k: tuple(v.shape) for k, v in text.state_dict().items()} == parity_keys("clip_text")
    expected = parity("clip_text")
    with torch.no_grad():
        # float32 sums in another order: 3e-7 measured.
        output = text(torch.from_numpy(expected["tokens"]))
    assert relative_error(output, expected["output"]) < 1e-5


def test_image_encoder_is_the_released_one(parity, parity_keys, fill, filled, relative_error):
    config = ClipVisionConfig(image_size=28, width=64, layers=2, heads=4, embed_dim=32)
    vision = filled(ClipVision(config))
    shapes = {key: tuple(value.shape) for key, value in vision.state_dict().items()}
    assert shapes == parity_keys("clip_vision")
    pixels = torch.from_numpy(fill.tensor("clip_vision:pixels", (2, 3, 28, 28)))
    with torch.no_grad():
        # float32 sums in another order: 3e-7 measured.
        assert relative_error(vision(pixels), parity("clip_vision")["output"]) < 1e-5
