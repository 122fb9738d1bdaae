"""Each form of a graph computes the same; that for CUDA has kernels there and keeps no scores."""

from collections import Counter
from functools import partial

import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import open_engine
from keyvid.engines.verification import known_input, verify_engine
from keyvid.export.cuda_check import find_cpu_nodes
from keyvid.export.graph import export_graph, half_precision
from keyvid.export.stages import STAGES, Variant
from keyvid.export.verify import known_sample, relative_errors
from keyvid_ref.unet_attention import attend
from keyvid_ref.vae import Downsample
from keyvid_ref.weights import load_network, random_network

FORMS = ("plain", "cuda")


@pytest.fixture
def write(tmp_path):
    """`write(module, call, inputs)`: the file of each form, weights beside them."""

    def write_forms(module, call, inputs, output="y", stored=torch.float32):
        weights = tmp_path / "weights.safetensors"
        save_file({k: x.to(stored).contiguous() for k, x in module.state_dict().items()}, weights)
        paths = {form: tmp_path / f"{form}.onnx" for form in FORMS}
        export_graph(module, call, inputs, output, weights, paths)
        return paths

    return write_forms


def operators(path):
    return Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)


def stored(path):
    """Places in the weight file that a graph reads."""
    weights = onnx.load(path, load_external_data=False).graph.initializer
    return {tuple((entry.key, entry.value) for entry in x.external_data) for x in weights} - {()}


def outcome(path, inputs):
    feed = {name: x.numpy() for name, x in inputs.items()}
    (y,) = InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed)
    return torch.from_numpy(y)


def error(got, want):
    return float((got.float() - want).norm() / want.norm())


KINDS = {"generator": {}, "interpolator": {"temporal": "windows"}}


@pytest.mark.parametrize("name", KINDS)
def test_unets_keep_no_scores(exported, name):
    """Their error in float32 is checked when they are exported, 1e-4 is allowed."""
    folder, _ = exported
    bundle, kind = Bundle.load(folder), KINDS[name]
    plain, cuda = (bundle.graph(name, form=form, **kind) for form in FORMS)
    before, counts = operators(folder / plain.file), operators(folder / cuda.file)
    assert counts["MultiHeadAttention"] == before["Softmax"] > 0
    assert counts["InstanceNormalization"] == before["GroupNormalization"] > 0
    assert counts["Softmax"] == counts["GroupNormalization"] == 0
    assert cuda.memory.scores == 0
    assert stored(folder / cuda.file) == stored(folder / plain.file)
    assert cuda.check == plain.check
    assert find_cpu_nodes(folder / plain.file) != []


# Half precision costs the micro U-Nets 9e-4 to 1.2e-3 in either form; that of weights adds to it.
HALF_ERROR = 2e-3


@pytest.mark.parametrize("name", KINDS)
def test_unets_in_half_precision(exported_half, micro, name):
    bundle = Bundle.load(exported_half)
    graph, stage = bundle.graph(name, form="cuda", **KINDS[name]), STAGES[name]
    variant = Variant(graph.branches, graph.temporal)
    module = load_network(exported_half / f"{name}.safetensors", micro)
    (relative,) = relative_errors(
        exported_half / graph.file,
        lambda: partial(stage.call_of(variant), module),
        [known_sample(stage.inputs(micro, variant))],
        stage.output,
        HALF_ERROR,
    )
    assert 1e-5 < relative <= HALF_ERROR
    graphs = [bundle.graph(name, form=form, **KINDS[name]) for form in FORMS]
    casts = [operators(exported_half / graph.file)["Cast"] for graph in graphs]
    assert casts[0] > 100 > casts[1]  # those around norms are gone


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, HALF_ERROR)]
)
def test_full_temporal_attention(write, micro, dtype, tolerance):
    stage, variant = STAGES["interpolator"], Variant(2, "full")
    module, call = random_network(micro, "interpolator", 0), stage.call_of(variant)
    sample = known_sample(stage.inputs(micro, variant))
    exported = half_precision(module) if dtype == torch.float16 else module
    path = write(exported, call, sample, stage.output, dtype)["cuda"]
    (relative,) = relative_errors(
        path, lambda: partial(call, module), [sample], stage.output, tolerance
    )
    assert relative <= tolerance
    assert operators(path)["Softmax"] == 0
    assert find_cpu_nodes(path) == []


@pytest.mark.gpu
def test_all_nodes_run_and_are_recorded_on_the_gpu(exported_half, caplog):
    bundle = Bundle.load(exported_half)
    for report in verify_engine(bundle, "cuda"):
        assert report.graph.endswith(".cuda.onnx")
    assert caplog.text == ""
    inputs = {
        name: known_input(name, spec.shape)
        if spec.dtype == "float32"
        else np.ones(spec.shape, np.int64)
        for name, spec in bundle.graph("generator").inputs.items()
    }
    got, want = (
        open_engine(bundle, "generator", engine=engine)(**inputs)["velocity"]
        for engine in ("cuda", "onnxruntime")
    )
    assert np.linalg.norm(got - want) <= 5e-3 * np.linalg.norm(want)


class Norms(nn.Module):
    """Group norms over images and videos, as images, and a layer norm."""

    def __init__(self):
        super().__init__()
        self.into = nn.Conv2d(8, 8, 1)
        self.images, self.video = nn.GroupNorm(2, 8, eps=1e-6), nn.GroupNorm(4, 8)
        self.layer = nn.LayerNorm(5)
        for norm in (self.images, self.video, self.layer):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)

    def forward(self, x):
        images = self.images(self.into(x))
        video = self.video(images.unflatten(0, (2, 3)).transpose(1, 2).contiguous())
        return self.layer(video) + 1


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_norms(write, dtype):
    """They err in half precision no more than torch's modules do, whose norms are in float32."""
    torch.manual_seed(0)
    module, x = Norms().eval(), 3 * torch.randn(6, 8, 4, 5) + 1
    half = half_precision(module)
    exported = half if dtype == torch.float16 else module
    paths = write(exported, lambda net, x: net(x), {"x": x}, stored=dtype)
    want = module(x)
    allowed = 1.1 * error(half(x.half()), want) if dtype == torch.float16 else 1e-5
    for path in paths.values():
        assert error(outcome(path, {"x": x}), want) <= allowed
    assert operators(paths["cuda"])["InstanceNormalization"] == 2
    casts = {form: operators(path)["Cast"] for form, path in paths.items()}
    # Into and out of the graph; in the plain form around each norm and for its weights as well.
    assert casts == (
        {"plain": 14, "cuda": 2} if dtype == torch.float16 else dict.fromkeys(FORMS, 0)
    )


def test_padding_is_part_of_the_convolution(write):
    torch.manual_seed(0)
    module, inputs = Downsample(8).eval(), {"x": torch.randn(1, 8, 6, 10)}
    paths = write(module, lambda net, x: net(x), inputs)
    assert [operators(path)["Pad"] for path in paths.values()] == [1, 0]
    for path in paths.values():
        torch.testing.assert_close(outcome(path, inputs), module(**inputs))


class Attention(nn.Module):
    """Attention of one query to two contexts, the second with a mask."""

    def __init__(self):
        super().__init__()
        self.to_q = nn.Linear(8, 8)

    def forward(self, x, context):
        query = self.to_q(x)
        heads = [part.unflatten(-1, (2, -1)).transpose(1, 2) for part in (query, context, context)]
        mask = torch.ones(len(x[0]), len(context[0])).tril().bool()
        masked = F.scaled_dot_product_attention(*heads, attn_mask=mask)
        return attend(query, context, context, 2) + masked.transpose(1, 2).flatten(2)


def test_attention_with_a_mask_stays_plain(write):
    torch.manual_seed(0)
    module, inputs = Attention().eval(), {"x": torch.randn(3, 4, 8), "c": torch.randn(3, 6, 8)}
    paths = write(module, lambda net, x, c: net(x, c), inputs)
    counts = operators(paths["cuda"])
    assert (counts["MultiHeadAttention"], counts["Softmax"]) == (1, 1)
    for path in paths.values():
        torch.testing.assert_close(outcome(path, inputs), module(*inputs.values()))
