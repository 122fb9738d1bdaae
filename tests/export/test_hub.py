"""Downloads against a server that behaves, breaks off, or serves something else."""

import hashlib

import pytest

from keyvid.errors import BundleError, SettingsError
from keyvid.export.hub import RELEASED, default_folder, fetch, open_from_hub

NAME = "RyanWW/KeyVID/interpolation/epoch=3669-step=58720.ckpt"
CONTENT = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def served(hub):
    hub.files[NAME] = CONTENT


def gets(hub):
    """First bytes of the downloads."""
    return [start for method, _, start in hub.requests if method == "GET"]


def test_a_file_is_downloaded_once(hub):
    path = fetch("interpolator")
    assert path.read_bytes() == CONTENT
    assert fetch("interpolator") == path
    assert gets(hub) == [0]


def test_a_broken_download_goes_on_in_the_next_process(hub):
    """What one process could not finish, the next one does, from where it stopped."""
    hub.budget = 1000
    with pytest.raises(BundleError, match=r"58720.ckpt: cannot be downloaded: .* run the same"):
        fetch("interpolator")
    (left,) = default_folder().iterdir()
    assert left.read_bytes() == CONTENT[:1000]
    hub.budget, hub.requests = None, []
    assert fetch("interpolator").read_bytes() == CONTENT
    assert gets(hub) == [1000]
    assert not left.exists()


def test_a_download_that_never_ends_fails_in_one_line(hub):
    hub.budget = 0
    with pytest.raises(
        BundleError, match=r"cannot be downloaded: .* --interpolator FILE"
    ) as raised:
        fetch("interpolator")
    assert "\n" not in str(raised.value)


def test_too_much_left_by_another_version_is_dropped(hub):
    folder = default_folder()
    folder.mkdir(parents=True)
    checksum = hashlib.sha256(CONTENT).hexdigest()
    (folder / f"{checksum}.incomplete").write_bytes(CONTENT + b"more")
    assert fetch("interpolator").read_bytes() == CONTENT


@pytest.mark.parametrize("length", [40, 64])
def test_another_content_is_refused_and_removed(hub, length):
    hub.stated[NAME] = "a" * length
    with pytest.raises(BundleError, match=r"checksum \w{12}..., the Hub says aaaaaaaaaaaa...; it"):
        fetch("interpolator")
    assert list(default_folder().iterdir()) == []


def test_a_small_file_has_the_checksum_of_git(hub):
    hub.stated[NAME] = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    assert fetch("interpolator").read_bytes() == CONTENT


@pytest.mark.parametrize("checksum", ["", "../../etc/passwd", "a" * 39])
def test_a_server_without_a_checksum_is_refused(hub, checksum):
    hub.stated[NAME] = checksum
    with pytest.raises(BundleError, match="states no size and checksum"):
        fetch("interpolator")


def test_a_file_that_is_not_there_is_named(hub):
    with pytest.raises(BundleError, match=r"KeyVID/keyframe_generation/.*: cannot be downloaded"):
        fetch("generator")


def test_only_what_is_not_given_is_downloaded(hub, published, released):
    given = {name: released[name] for name in ("generator", "localizer")}
    source = open_from_hub(published, given, ["generator", "interpolator", "localizer"])
    assert source.origin.inputs == {**given, "interpolator": fetch("interpolator")}
    assert gets(hub) == [0]


def test_what_the_hub_lacks_is_asked_for_first(hub, published):
    with pytest.raises(SettingsError, match="localizer: needs --localizer FILE, which is not"):
        open_from_hub(published, {}, ["interpolator", "localizer"])
    assert hub.requests == []


def test_files_are_those_of_the_release():
    assert RELEASED["generator"] == (
        "RyanWW/KeyVID",
        "keyframe_generation/generator_checkpoint.ckpt",
    )
    assert "/".join(RELEASED["interpolator"]) == NAME
