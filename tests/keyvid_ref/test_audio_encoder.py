import torch

from keyvid_ref.audio_encoder import AudioEncoder, AudioEncoderConfig, resize_position_table


def test_audio_encoder_is_the_released_one(parity, parity_keys, fill, filled, relative_error):
    encoder = filled(AudioEncoder(AudioEncoderConfig(width=64, layers=2, heads=4, embed_dim=32)))
    shapes = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    assert shapes == parity_keys("audio_encoder")
    mel = torch.from_numpy(fill.tensor("audio_encoder:mel", (2, 1, 128, 204)))
    with torch.no_grad():
        # float32 sums in another order: 3e-7 measured.
        assert relative_error(encoder(mel), parity("audio_encoder")["output"]) < 1e-5


def test_position_table_is_resized_as_released(parity, fill, relative_error):
    stored = torch.from_numpy(fill.tensor("audio_pos_embed:stored", (1, 229, 16)))
    resized = resize_position_table(stored, (12, 19), (12, 48))
    assert relative_error(resized, parity("audio_pos_embed")["output"]) < 1e-6


def test_published_sizes():
    config = AudioEncoderConfig()
    assert (config.frequency_patches, config.time_patches, config.num_tokens) == (12, 48, 577)
