"""The published structure in half precision, as far as TensorRT's documentation tells.

All layers, heads, tokens, frames and pixels are those of keyvid-512; only channels are fewer, a
quarter in the U-Nets and the autoencoder, so that it exports in little memory. Operators, types and
constraints do not depend on channels; whether kernels exist for the real ones is not seen here.
"""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from keyvid.export.graph import export_graph, half_precision
from keyvid.export.stages import STAGES, Variant
from keyvid.export.tensorrt_check import find_problems
from keyvid_ref.presets import PRESETS
from keyvid_ref.weights import random_networks

_FULL = PRESETS["keyvid-512"]

pytestmark = pytest.mark.slow

CASES = [
    *((name, Variant()) for name in STAGES if name not in ("generator", "interpolator")),
    ("generator", Variant(4)),
    ("interpolator", Variant(4, "windows")),
    ("interpolator", Variant(4, "full")),
]


@pytest.fixture(scope="module")
def narrow():
    """keyvid-512 with few channels."""
    audio = replace(_FULL.audio, width=96, embed_dim=32)
    return replace(
        _FULL,
        unet=replace(
            _FULL.unet,
            model_channels=80,
            head_channels=16,
            norm_groups=16,
            context_dim=64,
            audio_dim=96,
        ),
        vae=replace(_FULL.vae, channels=32),
        clip_text=replace(_FULL.clip_text, vocab_size=512, width=64, embed_dim=64),
        clip_vision=replace(_FULL.clip_vision, width=80, embed_dim=64),
        resampler=replace(_FULL.resampler, width=64, head_channels=8, input_dim=80, output_dim=64),
        audio=audio,
        localizer=replace(
            _FULL.localizer, audio=replace(_FULL.localizer.audio, width=96, embed_dim=32)
        ),
    )


@pytest.fixture(scope="module")
def networks(narrow):
    return random_networks(narrow, 0)


@pytest.mark.parametrize(("name", "variant"), CASES, ids=[n + v.suffix for n, v in CASES])
def test_static_proof(narrow, networks, tmp_path, name, variant):
    stage = STAGES[name]
    module = stage.set_up(networks.files()[stage.weights], variant)
    save_file({k: v.half() for k, v in module.state_dict().items()}, tmp_path / "w.safetensors")
    generator = torch.Generator().manual_seed(0)
    inputs = {k: spec.random(generator) for k, spec in stage.inputs(narrow, variant).items()}
    graph = tmp_path / f"{name}.onnx"
    export_graph(
        half_precision(module),
        stage.call,
        inputs,
        stage.output,
        tmp_path / "w.safetensors",
        graph,
    )
    assert find_problems(graph) == []
