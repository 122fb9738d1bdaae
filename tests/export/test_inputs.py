"""What `--from-hub` finds, says and refuses before it downloads anything."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from keyvid.errors import SettingsError
from keyvid.export import released as released_module
from keyvid.export import room
from keyvid.export.inputs import open_inputs
from keyvid.export.released import LICENCES, PUBLISHED, REVISION
from keyvid.export.room import plan_room
from keyvid.export.stages import STAGES

GENERATOR = "KeyVID/keyframe_generation/generator_checkpoint.ckpt"


@pytest.fixture
def files(published_hub):
    """Files of KeyVID's repository by path, to be changed."""
    return published_hub.repositories["RyanWW/KeyVID"].commits[REVISION]


def rename(files, old, new):
    (path,) = [path for path in files if old in path]
    files[path.replace(old, new)] = files.pop(path)


@pytest.fixture
def open_hub(published):
    """`open_hub(stages, revision, **given)`: what `--from-hub` opens."""

    def open_it(*stages, revision=REVISION, **given):
        return open_inputs(published, stages, None, None, given, revision)

    return open_it


@pytest.fixture
def announce(tmp_path):
    """`announce(inputs)`: the lines that it says before a download."""

    def announce_it(inputs, **options):
        lines = []
        options = {"precision": "fp32", "verify": False, "drop_downloads": False} | options
        out = tmp_path / "bundle"
        inputs.announce(inputs.stages, (), out, say=lines.append, **options)
        return lines

    return announce_it


def found(inputs):
    return {name: file.path for name, file in inputs.source.origin.downloads.items()}


def test_all_files_are_found(files, open_hub):
    inputs = open_hub()
    assert inputs.stages == tuple(STAGES)
    assert found(inputs) == {
        "generator": "KeyVID/keyframe_generation/generator_checkpoint.ckpt",
        "interpolator": "KeyVID/interpolation/epoch=3669-step=58720.ckpt",
        "localizer": "KeyVID/wav2motion/best_model_version1_with_skip.pth",
        "tokenizer": "tokenizer.json",
    }


def test_only_what_is_needed_and_not_given_is_looked_for(published_hub, files, open_hub, released):
    given = {name: released[name] for name in ("generator", "localizer")}
    assert found(open_hub("generator", "localizer", **given)) == {}
    assert published_hub.requests == []
    assert found(open_hub("interpolator", **given)).keys() == {"interpolator"}


def test_renamed_folders_do_not_matter(files, open_hub):
    files["KeyVID/keyframe_generation/generator_checkpoint.ckpt.txt"] = b"a note on it"
    for old in ("KeyVID/keyframe_generation", "KeyVID/interpolation", "KeyVID/wav2motion"):
        for path in [path for path in files if path.startswith(f"{old}/")]:
            files[path.replace(old, "elsewhere/v2")] = files.pop(path)
    assert found(open_hub())["generator"] == "elsewhere/v2/generator_checkpoint.ckpt"


def test_the_interpolator_of_the_script_is_taken_and_another_by_its_name(files, open_hub):
    notes = [note for note in open_hub().notes if note.startswith("interpolator: ")]
    assert notes == [
        "interpolator: epoch=3669-step=58720.ckpt, the one that the release's script names; also "
        "there: epoch=99-step=12.ckpt, see --interpolator NAME"
    ]
    for name in ("epoch=99-step=12.ckpt", "epoch=99-step=12"):
        inputs = open_hub("interpolator", interpolator=Path() / name)
        assert found(inputs) == {"interpolator": "KeyVID/interpolation/epoch=99-step=12.ckpt"}
        assert any("epoch=99-step=12.ckpt, as asked for" in note for note in inputs.notes)


def test_a_checkpoint_that_is_called_otherwise_is_named(files, open_hub):
    rename(files, "generator_checkpoint", "keyframes")
    with pytest.raises(SettingsError, match=r"no generator_checkpoint.ckpt in .*/keyframes.ckpt"):
        open_hub()
    assert found(open_hub(generator=Path() / "keyframes.ckpt"))["generator"].endswith(
        "/keyframes.ckpt"
    )
    with pytest.raises(SettingsError, match=r"typo.ckpt is no file here, and none in RyanWW/KeyV"):
        open_hub(generator=Path() / "typo.ckpt")


def test_two_files_of_a_name_are_the_users_to_choose(files, open_hub):
    files["old/generator_checkpoint.ckpt"] = b"an older one"
    with pytest.raises(SettingsError, match=r"has several: .*; name its path"):
        open_hub()
    chosen = open_hub(generator=Path() / "old/generator_checkpoint.ckpt")
    assert found(chosen)["generator"] == "old/generator_checkpoint.ckpt"
    files["old/generator_checkpoint.ckpt"] = files[GENERATOR]
    assert found(open_hub())["generator"] == GENERATOR


def test_a_missing_localizer_leaves_the_other_stages(files, open_hub, announce):
    rename(files, "best_model_version1_with_skip.pth", "notes.txt")
    inputs = open_hub()
    assert inputs.stages == tuple(name for name in STAGES if name != "localizer")
    (note,) = [line for line in announce(inputs) if line.startswith("without localizer: ")]
    assert "no best_model_version1_with_skip.pth in RyanWW/KeyVID" in note
    assert "--motion packaged, --beats or --keyframes, and all else works" in note
    with pytest.raises(SettingsError, match=r"localizer: no best_model_version1_with_skip.pth in"):
        open_hub("localizer")


@pytest.mark.security
def test_a_file_of_another_content_than_is_known_is_refused(files, open_hub, monkeypatch):
    monkeypatch.setattr(released_module, "PINNED", {"epoch=3669-step=58720.ckpt": (5, "abcd")})
    with pytest.raises(
        SettingsError, match=r"expected 5 bytes, abcd...; it is not the published file"
    ):
        open_hub("interpolator")


@pytest.mark.security
def test_what_is_pinned_is_told_from_what_is_not(published_hub, files, open_hub, announce):
    lines = announce(open_hub())
    assert f"RyanWW/KeyVID at {REVISION}, pinned, commit {REVISION[:12]}" in lines
    assert any(
        line.startswith(f"{PUBLISHED['tokenizer'].repository} at main, not pinned")
        for line in lines
    )
    assert sum("the Hub's own, not known beforehand" in line for line in lines) == 4
    assert any(
        "at main, not pinned" in line for line in announce(open_hub("localizer", revision="main"))
    )


def test_size_room_and_licences_are_said_before_the_download(
    published_hub, open_hub, announce, released
):
    lines = announce(open_hub())
    assert sum(line.startswith("licences: ") for line in lines) == 1
    assert "CC-BY-NC-4.0" in lines[0]
    assert any(
        line.startswith("generator: KeyVID/keyframe_generation/generator_checkpoint.ckpt, ")
        for line in lines
    )
    assert lines[-1].startswith("to fetch: ")
    assert "MB more at most; memory: " in lines[-1]
    assert published_hub.downloads() == []


def test_each_stage_has_a_licence():
    assert LICENCES.keys() == STAGES.keys()


def options(**changes):
    return {"precision": "fp32", "verify": True, "drop_downloads": False} | changes


def test_downloads_that_go_early_take_less_room(published_hub, open_hub, published):
    inputs = open_hub()
    sizes = {name: file.bytes for name, file in inputs.source.origin.downloads.items()}
    kept = plan_room(inputs.source, inputs.stages, (), **options())
    assert kept.downloads == sum(sizes.values())
    assert kept.both == kept.downloads + kept.bundle
    dropped = plan_room(inputs.source, inputs.stages, (), **options(drop_downloads=True))
    assert dropped.bundle == kept.bundle
    # The generator's checkpoint is read while the localizer's is there, the interpolator's later.
    assert dropped.downloads <= sizes["generator"] + sizes["localizer"] + sizes["tokenizer"]
    assert dropped.both < kept.both - sizes["interpolator"] / 2
    half = plan_room(inputs.source, inputs.stages, (), **options(precision="fp16"))
    assert half.bundle == pytest.approx(kept.bundle / 2, rel=1e-3)


def test_what_is_there_is_not_counted_again(published_hub, open_hub):
    inputs = open_hub()
    before = plan_room(inputs.source, inputs.stages, (), **options())
    inputs.source.origin.downloads["generator"].fetch()
    after = plan_room(inputs.source, inputs.stages, ("vae",), **options())
    assert before.downloads - after.downloads == inputs.source.origin.downloads["generator"].bytes
    assert after.bundle < before.bundle


def test_a_disk_that_is_too_small_is_refused_before_the_download(
    published_hub, open_hub, announce, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=40_000_000))
    match = r"downloads and bundle take .* more, 40 MB are free; make room, add --drop-downloads, "
    with pytest.raises(SettingsError, match=match):
        announce(open_hub())
    announce(open_hub(), drop_downloads=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4_000_000))
    with pytest.raises(SettingsError, match="4 MB are free; make room, choose another disk with"):
        announce(open_hub(), drop_downloads=True)
    assert published_hub.downloads() == []


def test_disks_of_their_own_are_asked_one_by_one(published_hub, open_hub, tmp_path, monkeypatch):
    cache = room.default_folder().parent
    while not cache.is_dir():
        cache = cache.parent
    free = {cache: 10**9, tmp_path: 1000}
    monkeypatch.setattr(room, "_device", lambda path: str(path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    planned = plan_room(open_hub().source, tuple(STAGES), (), **options())
    with pytest.raises(SettingsError, match=rf"{tmp_path}: bundle take .* 1 kB are free"):
        planned.check(tmp_path / "out", drop_downloads=False, verify=False)
    replace(planned, bundle=10).check(tmp_path / "out", drop_downloads=False, verify=False)


def test_too_little_memory_is_refused_before_the_download(
    open_hub, published_hub, announce, monkeypatch
):
    monkeypatch.setattr(room, "available_bytes", lambda: 100_000_000)
    with pytest.raises(SettingsError, match=r"of memory, 100 MB are free; .* add --no-verify, or"):
        announce(open_hub(), verify=True)
    assert published_hub.downloads() == []
