"""The judge behind RelSync against the released one."""

import json

import pytest
import torch
from safetensors.torch import save_file

from keyvid_ref.avsync import prepare_frames, relsync
from keyvid_ref.checkpoint import AVSYNC_FOLDERS, find_avsync, read_checkpoints
from keyvid_ref.presets import AVSYNC
from keyvid_ref.weights import build_network, random_network
from tests.avsync import filled_state, write_release
from tests.conftest import FIXTURES

AUDIO, VIDEO, HEAD = AVSYNC_FOLDERS


@pytest.fixture(scope="module")
def networks(fill):
    """The three networks with the fixture's weights."""
    built = {name: build_network(AVSYNC, name) for name in AVSYNC_FOLDERS}
    for name, network in built.items():
        network.load_state_dict(filled_state(name, fill))
    return built


def test_the_keys_are_the_released_ones(networks):
    keys = json.loads((FIXTURES / "avsync.keys.json").read_text())
    for name, network in networks.items():
        shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
        assert shapes == keys[AVSYNC_FOLDERS[name]]
    parameters = sum(x.numel() for network in networks.values() for x in network.parameters())
    assert 20.7e6 < parameters < 20.9e6


def test_embeddings_and_scores_are_the_released_ones(networks, fill, parity, relative_error):
    want = parity("avsync")
    mel = torch.from_numpy(fill.tensor("avsync:mel", (2, 1, 128, 204)))
    video = torch.from_numpy(fill.tensor("avsync:video", (2, 3, 12, 64, 64)))
    with torch.no_grad():
        heard, seen = networks[AUDIO](mel), networks[VIDEO](video)
        score = networks[HEAD](heard, seen)[:, 0]
        swapped = networks[HEAD](heard.flip(0), seen)[:, 0]
    # float32 sums in another order: 2e-7 measured.
    assert relative_error(heard, want["audio_embedding"]) < 1e-5
    assert relative_error(seen, want["video_embedding"]) < 1e-5
    assert relative_error(score, want["score"]) < 1e-5
    assert relative_error(swapped, want["score_swapped_sound"]) < 1e-5
    assert relative_error(relsync(swapped, score), want["relsync"]) < 1e-5


def test_frames_are_prepared_as_released(fill, parity, relative_error):
    pixels = torch.from_numpy(fill.tensor("avsync:pixels", (2, 3, 48, 80))).sigmoid()
    prepared = prepare_frames(pixels, 224, 224)[:, :, ::16, ::16]
    assert relative_error(prepared, parity("avsync")["prepared_every_16th"]) < 1e-5


def test_random_weights_let_something_through():
    for name in AVSYNC_FOLDERS:
        for key, value in random_network(AVSYNC, name, 0).state_dict().items():
            assert value.any() or key.endswith(("running_mean", "num_batches_tracked")), key


def test_the_released_folder_is_read_in_either_format(fill, tmp_path):
    folder = write_release(tmp_path, fill)
    audio = folder / AVSYNC_FOLDERS[AUDIO] / "diffusion_pytorch_model.safetensors"
    save_file(filled_state(AUDIO, fill), audio)
    (audio.with_suffix(".bin")).unlink()
    paths = find_avsync(folder)
    assert [path.suffix for path in paths.values()] == [".safetensors", ".bin", ".bin"]
    for name in AVSYNC_FOLDERS:
        read = read_checkpoints(AVSYNC, name, paths)
        for key, value in filled_state(name, fill).items():
            assert torch.equal(read[key], value)
            assert read[key].dtype == value.dtype


def test_a_part_in_the_place_of_another_is_refused(fill, tmp_path):
    paths = find_avsync(write_release(tmp_path, fill))
    with pytest.raises(ValueError, match=r"does not fit preset 'avsync': 6 missing: fc.0.weight"):
        read_checkpoints(AVSYNC, HEAD, {**paths, HEAD: paths[AUDIO]})
