"""What an export leaves behind: nothing after success or failure, finished stages in between."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from keyvid.bundle.manifest import Bundle, write_manifest
from keyvid.bundle.specs import FileSpec
from keyvid.errors import BundleError, SettingsError
from keyvid.export.build import build_bundle
from keyvid.export.source import Source
from keyvid.export.target import put_in_place

STAGES = ["localizer", "vae_decoder"]


@pytest.fixture
def interrupted(source, tmp_path):
    """An export of `STAGES` that was interrupted in the second one: where it was to be."""

    def stop(line):
        if line == "vae_decoder.onnx":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_bundle(source, tmp_path / "bundle", STAGES, verify=False, progress=stop)
    return tmp_path / "bundle"


def export(source, out, stages=STAGES, **options):
    """The graphs that were made."""
    lines = []
    build_bundle(source, out, stages, verify=False, progress=lines.append, **options)
    return lines


def test_the_next_export_goes_on(source, interrupted):
    (left,) = interrupted.parent.iterdir()
    assert {path.name for path in left.iterdir()} >= {"localizer.onnx", "progress.json"}
    assert export(source, interrupted) == ["vae_decoder.onnx"]
    assert list(interrupted.parent.iterdir()) == [interrupted]
    assert list(Bundle.load(interrupted).stages) == STAGES  # every file is as the manifest says


@pytest.mark.parametrize("change", ["seed", "precision", "stages", "damage"])
def test_anything_else_begins_anew(source, micro, interrupted, change):
    (left,) = interrupted.parent.iterdir()
    if change == "damage":
        path = left / "localizer.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    lines = export(
        Source.random(micro, 1) if change == "seed" else source,
        interrupted,
        ["localizer"] if change == "stages" else STAGES,
        precision="fp16" if change == "precision" else "fp32",
    )
    assert "localizer.onnx" in lines
    Bundle.load(interrupted)
    assert list(interrupted.parent.iterdir()) == [interrupted]


def test_a_mistake_afterwards_leaves_nothing(source, interrupted, monkeypatch):
    monkeypatch.setattr("keyvid.export.build.TOLERANCE", {"fp32": 0})
    with pytest.raises(Exception, match="relative error"):
        build_bundle(source, interrupted, ["vae_encoder"])
    assert list(interrupted.parent.iterdir()) == []


def test_a_full_disk_leaves_nothing(source, tmp_path, monkeypatch):
    free = [10**9, 1000]  # the localizer fits, the autoencoder does not
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free.pop(0)))
    out = tmp_path / "bundle"
    with pytest.raises(
        BundleError,
        match=r"cannot be written: vae\.safetensors takes [\d.]+ [kM]B, 1 kB are free; .*--out",
    ):
        build_bundle(source, out, STAGES, verify=False)
    assert list(tmp_path.iterdir()) == []


def test_two_exports_do_not_share_a_folder(tmp_path):
    with (
        put_in_place(tmp_path / "bundle", "a") as made,
        pytest.raises(SettingsError, match="another keyvid-export is writing there"),
        put_in_place(tmp_path / "bundle", "a"),
    ):
        pass
    assert (made.folder, list(tmp_path.iterdir())) == (
        tmp_path / ".bundle.keyvid-export",
        [tmp_path / "bundle"],
    )


def test_a_killed_export_frees_the_folder(tmp_path):
    """The lock ends with its process, and what is not recorded as finished is dropped."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from keyvid.export.target import put_in_place\n"
        "with put_in_place(Path(sys.argv[1]), 'a') as made:\n"
        "    (made.folder / 'half.onnx').write_text('')\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "bundle")])
    half = tmp_path / ".bundle.keyvid-export" / "half.onnx"
    while not half.exists():
        assert process.poll() is None
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with put_in_place(tmp_path / "bundle", "a") as made:
        assert list(made.folder.iterdir()) == []


def test_a_bundle_that_was_moved_aside_comes_back(tmp_path):
    """A process that dies between the two renames leaves the old bundle under another name."""
    aside = tmp_path / ".bundle.keyvid-replaced"
    aside.mkdir()
    (aside / "bundle.json").write_text("old")
    with pytest.raises(KeyboardInterrupt), put_in_place(tmp_path / "bundle", "a"):
        raise KeyboardInterrupt
    assert (tmp_path / "bundle" / "bundle.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_new_export_drops_plans(source, tmp_path):
    """They are of graphs that may be other ones now."""
    out = tmp_path / "bundle"
    export(source, out, ["localizer"])
    plan = out / "localizer.portable.12345678.plan"
    plan.write_bytes(b"native code")
    bundle = Bundle.load(out)
    files = bundle.files | {plan.name: FileSpec.of(plan)}
    write_manifest(out, replace(bundle, files=files, plans={plan.name: {"file": "localizer.onnx"}}))
    export(source, out, ["vae_decoder"])
    assert list(Bundle.load(out).stages) == ["localizer", "vae_decoder"]
    assert Bundle.load(out).plans is None
    assert not plan.exists()
