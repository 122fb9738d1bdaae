"""Released checkpoints: what is taken from them, and what is refused."""

import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from keyvid.errors import BundleError, SettingsError
from keyvid.export.source import TOKENIZER, Source
from keyvid_ref.audio_encoder import resize_position_table
from keyvid_ref.weights import NETWORKS, load_network

POSITIONS = "modality_preprocessors.audio.pos_embedding_helper.pos_embed"


@pytest.fixture
def changed(released, released_states, tmp_path):
    """`changed("generator", key=None or tensor)`: the files with changes to one checkpoint."""

    def change(name, **entries):
        state = released_states[name] | entries
        path = tmp_path / f"changed-{name}.ckpt"
        torch.save({k: x for k, x in state.items() if x is not None}, path)
        return {**released, name: path}

    return change


def written(source, name, tmp_path, **options):
    source.write(name, tmp_path, **options)
    return load_file(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_is_found_in_its_checkpoint(
    published, released, released_states, tmp_path, name
):
    weights = written(Source.released(published, released), name, tmp_path)
    load_network(tmp_path / f"{name}.safetensors", published)  # refuses other keys and shapes
    values = [x for state in released_states.values() for x in state.values()]
    for key, x in weights.items():
        assert x.dtype == torch.float32
        if key != POSITIONS:
            assert any(y.shape == x.shape and torch.equal(x, y) for y in values), key


def test_keys_lose_their_prefix(published, released, released_states, tmp_path):
    source, generator = Source.released(published, released), released_states["generator"]
    image = written(source, "image_encoder", tmp_path)
    for key, stored in {
        "clip.conv1.weight": "embedder.model.visual.conv1.weight",
        "resampler.latents": "image_proj_model.latents",
    }.items():
        assert torch.equal(image[key], generator[stored])


@pytest.mark.parametrize("origin", ["imagebind", "generator"])
def test_the_position_table_is_resized(published, released, released_states, tmp_path, origin):
    """With ImageBind's own file, and with the generator's copy where that is not given."""
    files = {name: path for name, path in released.items() if name == origin}
    weights = written(Source.released(published, files), "audio_encoder", tmp_path)
    stored = released_states["imagebind"][POSITIONS]
    expected = resize_position_table(stored, (12, 19), (12, 48))
    assert torch.equal(weights[POSITIONS], expected)


def test_a_table_of_the_right_size_stays(published, changed, tmp_path):
    table = torch.randn(1, 1 + 12 * 48, published.audio.width)
    files = changed("imagebind", **{POSITIONS: table})
    weights = written(Source.released(published, files), "audio_encoder", tmp_path)
    assert torch.equal(weights[POSITIONS], table)


def test_half_precision_is_stored_for_half_precision(published, released, tmp_path):
    weights = written(Source.released(published, released), "localizer", tmp_path, half=True)
    assert {x.dtype for x in weights.values()} == {torch.float16}


def test_what_does_not_fit_half_precision_is_refused(published, changed, tmp_path):
    files = changed("localizer", ada_weight=torch.tensor([1e6]))
    with pytest.raises(BundleError, match=r"ada_weight reaches 1e\+06, too much for float16"):
        Source.released(published, files).write("localizer", tmp_path, half=True)


def test_missing_unexpected_and_wrong_keys_are_listed(published, changed, tmp_path):
    extra = {f"linear{i}.scale": torch.ones(1) for i in range(4, 16)}
    files = changed("localizer", ada_bias=None, ada_weight=torch.ones(2), **extra)
    with pytest.raises(BundleError) as raised:
        Source.released(published, files).write("localizer", tmp_path)
    message = str(raised.value)
    assert message.startswith(f"{files['localizer']}: does not fit preset 'keyvid-512': ")
    assert "1 missing: ada_bias; 12 unexpected: linear4.scale, " in message
    assert "linear13.scale and 2 more; " in message
    assert "1 wrongly shaped: ada_weight (2,) instead of (1,); " in message
    assert list(tmp_path.glob("*.safetensors")) == list(tmp_path.glob("*.partial")) == []


def test_a_checkpoint_of_the_other_network_is_refused(published, released, tmp_path):
    files = {**released, "interpolator": released["generator"]}
    with pytest.raises(BundleError, match=r"4 unexpected: frame_idx_embedding.0.weight, "):
        Source.released(published, files).write("interpolator", tmp_path)


class Intruder:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_pickle_is_not_run(published, released, released_states, tmp_path):
    path, made = tmp_path / "evil.ckpt", tmp_path / "made"
    torch.save({"state_dict": released_states["interpolator"], "x": Intruder(made)}, path)
    source = Source.released(published, {**released, "interpolator": path})
    with pytest.raises(BundleError, match=rf"{path}: refused, .* such as \w+.mkdir and nothing"):
        source.write("interpolator", tmp_path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("share", [0, 0.5])
def test_a_checkpoint_that_is_cut_off_is_refused(published, released, tmp_path, share):
    content = released["interpolator"].read_bytes()
    path = tmp_path / "short.ckpt"
    path.write_bytes(content[: int(share * len(content))])
    source = Source.released(published, {**released, "interpolator": path})
    with pytest.raises(BundleError, match=rf"{path}: cannot be read, .* download it again"):
        source.write("interpolator", tmp_path)


def test_a_stage_needs_its_own_files_only(published, released, tmp_path):
    source = Source.released(published, {"interpolator": released["interpolator"]})
    source.check(["interpolator"])
    with pytest.raises(SettingsError, match="localizer: needs --localizer FILE; give it, or"):
        source.check(["interpolator", "localizer"])
    with pytest.raises(SettingsError, match="text_encoder: needs --generator FILE"):
        source.check(["text_encoder"])
    source = Source.released(published, {"interpolator": tmp_path / "none.ckpt"})
    with pytest.raises(BundleError, match=r"none.ckpt: no such file; it is needed for interpolat"):
        source.check(["interpolator"])


def test_other_encoders_in_the_interpolators_checkpoint_are_told(
    published, released, released_states, changed, tmp_path, caplog
):
    key = "image_proj_model.latents"
    same = {key: released_states["generator"][key]}
    written(Source.released(published, changed("interpolator", **same)), "interpolator", tmp_path)
    assert not caplog.records
    other = changed("interpolator", **{key: same[key] + 1})
    written(Source.released(published, other), "generator", tmp_path)
    assert not caplog.records
    written(Source.released(published, other), "interpolator", tmp_path)
    (record,) = caplog.records
    told = f"1 of the 1 tensors that both U-Nets share are not those of {released['generator']}, "
    assert told + f"such as {key}; the latter are used for both" in record.getMessage()


def test_the_tokenizer_pads_with_zeros(published, released, tmp_path):
    Source.released(published, released).write(TOKENIZER, tmp_path)
    ids = Tokenizer.from_file(str(tmp_path / TOKENIZER)).encode("a drum").ids
    assert len(ids) == published.clip_text.context_length
    assert ids[-1] == 0
    ids = Tokenizer.from_file(str(tmp_path / TOKENIZER)).encode("a drum " * 50).ids
    assert len(ids) == published.clip_text.context_length
    assert ids[-1] != 0


def test_a_tokenizer_of_another_size_is_refused(published, released, tmp_path):
    text = replace(published.clip_text, vocab_size=100)
    source = Source.released(replace(published, clip_text=text), released)
    with pytest.raises(BundleError, match=r"tokenizer.json: gives 16 of \d+ tokens, .* 16 of 100"):
        source.write(TOKENIZER, tmp_path)
