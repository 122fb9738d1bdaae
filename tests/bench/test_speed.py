"""What a GPU's owner runs, run here at tiny size on the CPU; and the arithmetic of the table."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from bench.speed import command as speed
from bench.speed import variants
from bench.speed.calls import Candidate, Case, PeakMemory, matmul_rate, measure
from bench.speed.flops import count_module_flops
from bench.speed.measurement import format_measurements
from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import open_engine, probe_engine
from keyvid.export.flops import count_graph_flops
from keyvid.export.stages import STAGES, Variant
from keyvid.export.verify import known_sample
from keyvid_ref.weights import random_network

CPU = torch.device("cpu")


def test_flops_are_those_of_products():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 5))
    flops = count_module_flops(net, lambda module, x: module(x), [torch.zeros(2, 3, 6, 6)])
    assert flops == 2 * 2 * (8 * 16 * 27 + 128 * 5)
    assert next(net.parameters()).device.type == "cpu"


@pytest.mark.parametrize("name", ["generator", "vae_decoder"])
def test_both_counters_agree_where_nothing_is_shared(name):
    bundle, stage = Bundle.load("tiny"), STAGES[name]
    variant = Variant(1 if name == "generator" else None)
    preset = speed.PRESETS["tiny"]
    module = random_network(preset, stage.weights, 0)
    inputs = known_sample(stage.inputs(preset, variant))
    graph = bundle.graph(name, branches=variant.branches)
    counted = count_graph_flops(bundle.path / graph.file)
    assert counted == count_module_flops(module, stage.call_of(variant), list(inputs.values()))


def test_candidates_take_turns_and_failures_have_reasons():
    order = []

    def opens(name):
        return lambda: lambda: order.append(name) or torch.full((2,), 1.0 + 0.5 * (name == "b"))

    def fails():
        raise RuntimeError("no such engine\nmore")

    candidates = [
        Candidate("a", opens("a"), torch.float32),
        Candidate("broken", fails, torch.float32),
        Candidate("b", opens("b"), torch.float32),
    ]
    rows = measure(Case("case", candidates, 1000), CPU, rounds=3)
    assert "".join(order) == "aabb" + 3 * "ab"
    assert [row.way for row in rows] == ["a", "broken", "b"]
    assert rows[1].reason == "no such engine"
    assert rows[0].flops_per_second == 1000 / rows[0].seconds
    assert rows[0].rounds == 3
    assert (rows[0].error, rows[2].error) == (None, 0.5)
    text = format_measurements(rows)
    assert "not available: no such engine" in text
    assert text.count("\n") == 4  # header, rule and two rows


def test_matmul_rate_is_plausible():
    assert 1e8 < matmul_rate(CPU, torch.float32) < 1e15


def test_peak_memory_sees_what_was_freed():
    memory = PeakMemory(CPU, uses_torch=True)
    block = torch.ones(256 << 20, dtype=torch.uint8)  # more than a used heap has left over
    del block
    assert 128 << 20 < memory.read() < 1 << 30


@pytest.fixture
def micro(monkeypatch):
    """The tiny preset with one level and a quarter of the pixels; nothing is compiled.

    Compiling takes minutes here and is torch's own affair: the call itself stands in for it.
    """
    monkeypatch.setattr(torch, "compile", lambda call: call)
    tiny = speed.PRESETS["tiny"]
    unet = replace(tiny.unet, model_channels=16, channel_mult=(1,), attention_downsampling=(1,))
    preset = replace(tiny, height=32, width=48, unet=replace(unet, head_channels=8))
    monkeypatch.setitem(speed.PRESETS, "tiny", preset)
    return preset


def test_the_command_on_the_cpu(micro, tmp_path, capsys):
    args = ["--preset", "tiny", "--device", "cpu", "--batch", "1", "--steps", "1", "--rounds", "1",
            "--engine", "tensorrt", "--engine", "tensorrt:plain",
            "--json", str(tmp_path / "full.json"),
            "--plot", str(tmp_path / "full.png")]  # fmt: skip
    assert speed.main(args) == 0
    content = json.loads((tmp_path / "full.json").read_text())
    with Image.open(tmp_path / "full.png") as page:
        colours = {colour for _, colour in page.getcolors(1 << 16)}
        assert {(201, 210, 217), (31, 95, 139)} <= colours  # the first of each case, the others
        assert page.height > 16 * 30  # a line for each row
    rows = {(row["case"], row["way"]): row for row in content["rows"]}
    cases = [
        "generator 12 frames x 1",
        "interpolator 48 frames x 1",
        "vae_decoder",
        "clip 1 steps",
    ]
    names = ["released", "autocast", "compiled", "tensorrt", "tensorrt:plain"]
    expected = [(case, name) for case in cases for name in names]
    assert list(rows) == expected[:-1]  # a clip takes the form that is the engine's own
    for (case, name), row in rows.items():
        if name.startswith("tensorrt"):
            assert "engine tensorrt cannot be used" in row["reason"]
            continue
        assert row["reason"] is None, row
        assert row["seconds"] > 0
        assert (row["flops_per_second"] is None) == case.startswith("clip")
    assert content["environment"]["packages"]["torch"] == torch.__version__
    assert content["environment"].keys() >= {"device", "commit", "threads"}
    assert "generator 12 frames x 1" in capsys.readouterr().out


def engine_rows(bundle, engine):
    """Rows of the decoder and of a clip, of the engine alone."""
    bench = variants.Bench(speed.PRESETS["tiny"], CPU, bundle, modes=[], engines=[engine])
    for case in bench.cases(["vae_decoder", "clip"], [], [1]):
        yield from measure(case, CPU, rounds=1)


def test_an_engine_can_be_told_the_form_of_graphs(monkeypatch):
    bundle = Bundle.load("tiny")
    opened = []
    monkeypatch.setattr(
        variants, "open_engine", lambda *a, **k: opened.append(k["form"]) or open_engine(*a, **k)
    )
    for way in ("onnxruntime", "onnxruntime:plain", "onnxruntime:fast"):
        row = next(engine_rows(bundle, way))
        assert (row.reason is None) == (way != "onnxruntime:fast")
    assert opened == [None, "plain"]


def test_results_lie_beside_each_other_by_preset_and_card():
    assert speed._as_file_name("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert speed._RESULTS.parent.name == "bench"


def test_engines_make_calls_and_clips():
    engine = next(n for n in ("openvino", "onnxruntime") if probe_engine(n).available)
    call, clip = engine_rows(Bundle.load("tiny"), engine)
    assert (call.case, clip.case) == ("vae_decoder", "clip 1 steps")
    assert call.reason is None
    assert call.flops_per_second
    assert clip.reason is None
    assert clip.seconds > 0


def test_without_its_bundle_an_engine_says_so():
    assert next(engine_rows(None, "onnxruntime")).reason.startswith("no --bundle given")
    other = replace(Bundle.load("tiny"), preset="keyvid-512")
    reason = next(engine_rows(other, "onnxruntime")).reason
    assert reason == "the bundle is of keyvid-512, not tiny"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--preset", "huge"], "unknown preset 'huge'; valid: keyvid-512, tiny"),
        (["--device", "cuda"], "torch sees no NVIDIA GPU"),
    ],
)
def test_mistakes_are_one_line(capsys, monkeypatch, args, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert speed.main(args) == 2
    assert message in capsys.readouterr().err


@pytest.mark.gpu
def test_full_size_on_a_gpu(tmp_path):
    """The torch variants; the engines need a bundle, see `python -m bench.speed --help`."""
    args = ["--batch", "1", "--steps", "1", "--json", str(tmp_path / "full.json")]
    assert speed.main(args) == 0
    rows = json.loads((tmp_path / "full.json").read_text())["rows"]
    assert all(row["seconds"] for row in rows if row["way"] == "released")
