import pytest
import torch
from safetensors.torch import load_file, save_file

from keyvid_ref.presets import PRESETS
from keyvid_ref.weights import load_networks, random_networks

_TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def networks():
    return random_networks(_TINY, seed=0)


@pytest.fixture
def folder(networks, tmp_path):
    for name, module in networks.files().items():
        halves = {key: value.half() for key, value in module.state_dict().items()}
        save_file(halves, tmp_path / f"{name}.safetensors")
    return tmp_path


def test_half_precision_files_load_as_float32(networks, folder):
    loaded = load_networks(folder, _TINY)
    assert not any(module.training for module in vars(loaded).values())
    for name, module in loaded.files().items():
        for key, value in module.state_dict().items():
            assert value.dtype == torch.float32
            written = networks.files()[name].state_dict()[key].half().float()
            torch.testing.assert_close(value, written, rtol=0, atol=0)


def test_image_encoder_file_holds_clip_and_resampler(folder):
    keys = load_file(folder / "image_encoder.safetensors").keys()
    assert {key.split(".")[0] for key in keys} == {"clip", "resampler"}


def test_only_the_generator_embeds_the_frame_index(folder):
    def has_frame_index(name):
        keys = load_file(folder / f"{name}.safetensors")
        return any(key.startswith("frame_idx_embedding.") for key in keys)

    assert has_frame_index("generator")
    assert not has_frame_index("interpolator")


def test_missing_and_unexpected_keys_are_named(folder):
    path = folder / "vae.safetensors"
    state = load_file(path)
    key = next(iter(state))
    state["intruder"] = state.pop(key)
    save_file(state, path)
    with pytest.raises(ValueError, match="does not fit preset 'tiny'") as raised:
        load_networks(folder, _TINY)
    assert str(path) in str(raised.value)
    assert key in str(raised.value)
    assert "intruder" in str(raised.value)


def test_random_weights_depend_on_the_seed_alone(networks):
    def first_weight(other):
        return other.generator.input_blocks[0][0].weight

    torch.testing.assert_close(first_weight(random_networks(_TINY, 0)), first_weight(networks))
    assert not torch.equal(first_weight(random_networks(_TINY, 1)), first_weight(networks))


def test_no_random_weight_is_silent(networks):
    for module in networks.files().values():
        for key, value in module.named_parameters():
            assert value.abs().max() > 0, key
