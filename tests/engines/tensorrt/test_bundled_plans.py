"""Plans in a bundle are used where they are trusted, unchanged and for this card, and not else."""

import errno
import json
import os
from pathlib import Path

import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.engines.cache import Cache
from keyvid.engines.spec import ENGINES
from keyvid.engines.tensorrt import bundled_plans, engine
from keyvid.engines.tensorrt.bundled_plans import add_plan, check_place, find_bundled, trust_plans
from keyvid.engines.tensorrt.plan import SETTINGS, Plan, build_plan, describe
from keyvid.errors import BundleError, EngineError, SettingsError
from tests.engines.rtx import ADA, BLACKWELL, needs_rtx

pytestmark = needs_rtx  # what a plan depends on includes its version

RTX = SETTINGS["tensorrt-rtx"]


@pytest.fixture
def graph(affine_bundle: Bundle) -> Path:
    return affine_bundle.path / "affine.onnx"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "plans")


@pytest.fixture
def other_user(tmp_path: Path) -> Cache:
    """The cache of one who built nothing."""
    return Cache(tmp_path / "others")


@pytest.fixture
def plan(graph: Path, cache: Cache) -> Plan:
    """A plan in the bundle."""
    plan = Plan(describe(graph, RTX, ("sm86", "sm89")), b"native code")
    add_plan(graph.parent, plan, cache)
    return plan


def test_who_built_a_plan_may_use_it(graph: Path, cache: Cache, plan: Plan) -> None:
    assert find_bundled(graph, RTX, cache, ADA) == plan
    bundle = Bundle.load(graph.parent)
    ((name, ingredients),) = (bundle.plans or {}).items()
    assert name.startswith("affine.sm86-sm89.")
    assert ingredients["kind"] == "TensorRT for RTX plan"
    assert bundle.files[name].bytes == len(plan.content)


def test_others_have_to_trust_it(graph: Path, cache: Cache, other_user: Cache, plan: Plan) -> None:
    with pytest.raises(EngineError) as error:
        find_bundled(graph, RTX, other_user, ADA)
    message = str(error.value)
    assert "a plan is native code, and this one was not built by this user" in message
    assert message.endswith(f"keyvid-cache trust {graph.parent}")
    trust_plans(Bundle.load(graph.parent), other_user)
    assert find_bundled(graph, RTX, other_user, ADA) == plan


def test_trust_is_in_the_bytes(graph: Path, cache: Cache, plan: Plan) -> None:
    """Other bytes that the manifest vouches for are as foreign as before."""
    path = next(graph.parent.glob("*.plan"))
    path.write_bytes(b"NATIVE CODE")
    with pytest.raises(BundleError, match=r"\.plan: is not what bundle.json says"):
        find_bundled(graph, RTX, cache, ADA)
    manifest = graph.parent / "bundle.json"
    content = json.loads(manifest.read_text())
    sha256 = bundled_plans.hashlib.sha256(b"NATIVE CODE").hexdigest()
    content["files"][path.name]["sha256"] = sha256
    manifest.write_text(json.dumps(content))
    with pytest.raises(EngineError, match="not built by this user"):
        find_bundled(graph, RTX, cache, ADA)


def test_a_changed_plan_is_found_when_the_bundle_is_loaded(graph: Path, plan: Plan) -> None:
    path = next(graph.parent.glob("*.plan"))
    path.write_bytes(b"native codE")
    with pytest.raises(BundleError, match=r"\.plan: sha256 .* bundle.json says"):
        Bundle.load(graph.parent)


def test_another_card_is_named(graph: Path, cache: Cache, plan: Plan) -> None:
    with pytest.raises(EngineError) as error:
        find_bundled(graph, RTX, cache, BLACKWELL)
    assert str(error.value) == (
        "affine.onnx: its plans are for sm86, sm89, this GPU is NVIDIA GeForce RTX 5090, sm120; "
        f"keyvid-cache build {graph.parent} --with-plans --target sm120"
    )


def test_another_version_is_named(
    graph: Path, cache: Cache, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorrt_rtx

    version = tensorrt_rtx.__version__
    monkeypatch.setattr(tensorrt_rtx, "__version__", "2.0.0")
    with pytest.raises(EngineError, match=rf"is for version {version}, here it is 2\.0\.0; key"):
        find_bundled(graph, RTX, cache, ADA)


def test_a_bundle_without_plans(graph: Path, cache: Cache) -> None:
    assert find_bundled(graph, RTX, cache, ADA) is None
    with pytest.raises(BundleError, match="holds no plans"):
        trust_plans(Bundle.load(graph.parent), cache)


def test_a_new_plan_takes_the_place_of_the_old_one(graph: Path, cache: Cache, plan: Plan) -> None:
    (graph.parent / "affine.portable.12345678.plan").write_bytes(b"what a killed process left")
    other = Plan(describe(graph, RTX, ("portable",)), b"for all")
    add_plan(graph.parent, other, cache)
    newer = Plan(plan.ingredients | {"builder": "next"}, b"newer")
    add_plan(graph.parent, newer, cache)
    assert len(Bundle.load(graph.parent).plans or {}) == 2
    contents = {path.read_bytes() for path in graph.parent.glob("*.plan")}
    assert contents == {b"for all", b"newer"}


def test_a_full_disk_leaves_the_bundle(
    graph: Path, cache: Cache, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (graph.parent / "bundle.json").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    other = Plan(describe(graph, RTX, ("portable",)), b"for all")
    with pytest.raises(BundleError, match="a plan cannot be put there: No space left on device"):
        add_plan(graph.parent, other, cache)
    assert (graph.parent / "bundle.json").read_bytes() == before
    assert find_bundled(graph, RTX, cache, ADA) == plan


def test_the_manifest_lists_plans_among_its_files(graph: Path, plan: Plan) -> None:
    manifest = graph.parent / "bundle.json"
    content = json.loads(manifest.read_text())
    (name,) = content["plans"]
    del content["files"][name]
    manifest.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"plans names .* which is not among files"):
        Bundle.load(graph.parent)


def test_no_plans_in_the_installation() -> None:
    with pytest.raises(SettingsError, match="tiny is part of the installation"):
        check_place("tiny")


def test_the_cache_comes_before_the_bundle_and_building_last(
    graph: Path, plan: Plan, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Plan] = []
    gpu = ADA
    monkeypatch.setattr(engine, "find_gpu", lambda: gpu)
    monkeypatch.setattr(engine, "Cache", lambda _: cache)
    monkeypatch.setattr(engine, "TensorRtRunner", lambda _, plan, *__: used.append(plan))
    engine.load(ENGINES["tensorrt-rtx"], graph, None)
    own = build_plan(graph, RTX, cache, ("sm89",))
    engine.load(ENGINES["tensorrt-rtx"], graph, None)
    assert used == [plan, own]
    gpu = BLACKWELL
    with pytest.raises(EngineError, match="this GPU is NVIDIA GeForce RTX 5090"):
        engine.load(ENGINES["tensorrt-rtx"], graph, None)
