import torch

from keyvid_ref.audio_encoder import AudioEncoderConfig
from keyvid_ref.localizer import Localizer, LocalizerConfig


def test_localizer_is_the_released_one(parity, parity_keys, fill, filled, relative_error):
    trunk = AudioEncoderConfig(
        layers=1, stride=(4, 4), mel_frames=198, class_token=False, embed_dim=32
    )
    localizer = filled(Localizer(LocalizerConfig(audio=trunk)))
    shapes = {key: tuple(value.shape) for key, value in localizer.state_dict().items()}
    assert shapes == parity_keys("localizer")
    mel = torch.from_numpy(fill.tensor("localizer:mel", (2, 1, 128, 198)))
    with torch.no_grad():
        # float32 sums in another order: 5e-7 measured.
        assert relative_error(localizer(mel), parity("localizer")["output"]) < 1e-5


def test_published_sizes():
    config = LocalizerConfig()
    assert config.audio.num_tokens == 29 * 46
