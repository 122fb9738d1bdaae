import pytest
import torch

from keyvid.export.scene import Scene
from keyvid.export.stages import STAGES, Input, Variant


@pytest.fixture(scope="module")
def scene(source):
    networks, tokenizer = source.load()
    return Scene(networks, source.preset, tokenizer)


@pytest.mark.parametrize("name", STAGES)
def test_real_inputs_are_what_the_graph_takes(scene, micro, name):
    stage = STAGES[name]
    for variant in stage.variants:
        specs = stage.inputs(micro, variant)
        with torch.no_grad():
            values = stage.real_inputs(scene, variant)
        for spec, value in zip(specs.values(), values, strict=True):
            assert value.shape == spec.shape
            assert value.dtype == (torch.float32 if spec.high is None else torch.int64)
            assert value.numel() == 1 or value.float().std() > 0
            assert spec.high is None or value.max() < spec.high


def test_branches_of_a_call_differ(scene):
    with torch.no_grad():
        _, timestep, context, audio, fps, index = scene.generator_inputs(4)
    assert index.shape == (1, 12)
    assert timestep.tolist() == [500]
    assert fps.tolist() == [6]
    pairs = [(0, 1), (1, 2)]  # image, then text, joins in the context
    assert all(not torch.equal(context[a], context[b]) for a, b in pairs)
    assert torch.equal(audio[1], audio[2])
    assert not torch.equal(audio[2], audio[3])


def test_random_inputs_stay_below_their_bound():
    generator = torch.Generator().manual_seed(0)
    values = Input((1000,), high=7).random(generator)
    assert set(values.tolist()) == set(range(7))
    assert Input((3, 2)).random(generator).dtype == torch.float32


def test_graph_names_tell_variants_apart():
    assert Variant().suffix == ""
    assert Variant(4).suffix == ".b4"
    assert Variant(2, "windows").suffix == ".b2.windows"
