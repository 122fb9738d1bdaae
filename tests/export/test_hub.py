"""Downloads from a stand-in that behaves, breaks off, or serves something else."""

import hashlib
import resource

import pytest

from keyvid.errors import BundleError
from keyvid.export.hub import default_folder, list_files
from tests.export.stand_in_hub import Repository

NAME, COMMIT = "owner/name", 40 * "a"
PATH, SMALL = "a folder/epoch=1-step=2.ckpt", "tokenizer.json"
CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def repository(hub):
    files = {PATH: CONTENT, SMALL: b"{}", "x/y/z.txt": b"", "README.md": b"#"}
    hub.repositories[NAME] = Repository({COMMIT: files}, COMMIT)
    return hub.repositories[NAME]


def find(path=PATH, revision=COMMIT):
    (file,) = [file for file in list_files(NAME, revision) if file.path == path]
    return file


def test_a_listing_has_sizes_and_checksums_of_all_pages():
    files = {file.path: file for file in list_files(NAME, "main")}
    assert files.keys() == {PATH, SMALL, "x/y/z.txt", "README.md"}
    large = files[PATH]
    assert (large.name, large.bytes, large.checksum, large.revision, large.is_large) == (
        "epoch=1-step=2.ckpt", len(CONTENT), SHA256, COMMIT, True,
    )  # fmt: skip
    assert not files[SMALL].is_large


def test_a_file_is_downloaded_once(hub):
    file = find()
    assert file.bytes_here == 0
    path = file.fetch()
    assert path == file.local
    assert path.read_bytes() == CONTENT
    assert file.fetch() == path
    assert file.bytes_here == len(CONTENT)
    assert hub.downloads() == [0]


def test_a_small_file_has_the_checksum_of_git():
    file = find(SMALL)
    assert file.fetch().read_bytes() == b"{}"
    described = file.describe()
    assert described.sha256 == hashlib.sha256(b"{}").hexdigest()
    assert (described.repository, described.revision, described.path) == (NAME, COMMIT, SMALL)


def test_a_broken_download_goes_on_in_the_next_process(hub):
    """What one process could not finish, the next one does, from where it stopped."""
    hub.budget = 1000
    with pytest.raises(
        BundleError, match=r"step=2.ckpt: cannot be downloaded from the Hub: .* run the s"
    ):
        find().fetch()
    (left,) = default_folder().iterdir()
    assert left.read_bytes() == CONTENT[:1000]
    assert find().bytes_here == 1000
    hub.budget, hub.requests = None, []
    assert find().fetch().read_bytes() == CONTENT
    assert hub.downloads() == [1000]
    assert not left.exists()


def test_an_address_that_has_expired_is_asked_for_again(hub, monkeypatch):
    """Signed addresses are good for an hour, large downloads take longer."""
    file = find()
    hub.uses, hub.budget = 1, 1000
    sign = hub.sign

    def sign_again(path, content):
        if hub.downloads():
            hub.budget = None
        return sign(path, content)

    monkeypatch.setattr(hub, "sign", sign_again)
    assert file.fetch().read_bytes() == CONTENT
    assert hub.downloads() == [0, 1000]
    assert len(hub.signed) == 2


def test_a_full_disk_is_one_line_and_what_came_is_kept(hub):
    """The limit on a file's size fails like a full disk: in the middle of a write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(BundleError, match=r"File too large; check .* disk and run the sa"):
            find().fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert find().bytes_here == 300_000
    assert find().fetch().read_bytes() == CONTENT
    assert hub.downloads()[-1] == 300_000


def test_too_much_left_by_another_version_is_dropped():
    folder = default_folder()
    folder.mkdir(parents=True)
    (folder / f"{SHA256}.incomplete").write_bytes(CONTENT + b"more")
    assert find().fetch().read_bytes() == CONTENT


@pytest.mark.security
@pytest.mark.parametrize("path", [PATH, SMALL])
def test_another_content_is_refused_and_removed(hub, path):
    file = find(path)
    hub.stated[path] = len(file.checksum) * "a"
    file = find(path)
    with pytest.raises(BundleError, match=r"checksum \w{12}..., the Hub lists aaaaaaaaaaaa...; it"):
        file.fetch()
    assert list(default_folder().iterdir()) == []


@pytest.mark.security
def test_a_file_that_is_not_as_it_was_listed_is_not_downloaded(hub):
    file = find()
    hub.stated[PATH] = 64 * "a"
    with pytest.raises(BundleError, match=r"revision, size and checksum are .*, listed as"):
        file.fetch()
    assert hub.downloads() == []


@pytest.mark.security
@pytest.mark.parametrize("checksum", ["", "../../etc/passwd", "a" * 39])
def test_a_listing_without_checksums_is_refused(hub, checksum):
    hub.stated[PATH] = checksum
    with pytest.raises(BundleError, match="is listed without a checksum"):
        list_files(NAME, COMMIT)


def test_a_branch_that_moves_is_followed_to_one_commit(hub, repository):
    """Files come from the commit that was listed, whatever the branch leads to meanwhile."""
    file = find(revision="main")
    repository.commits["b" * 40] = {PATH: b"another"}
    repository.main = "b" * 40
    assert file.fetch().read_bytes() == CONTENT
    assert find(revision="main").bytes == len(b"another")
    assert find(revision=COMMIT) == file


def test_a_commit_that_is_gone_is_one_line(repository):
    del repository.commits[COMMIT]
    with pytest.raises(BundleError, match=rf"no revision {COMMIT}; choose another with --revision"):
        list_files(NAME, COMMIT)


def test_a_server_that_answers_with_another_commit_is_refused(repository):
    repository.commit = lambda _: COMMIT
    with pytest.raises(BundleError, match=rf"revision b+ is answered with '{COMMIT}'"):
        list_files(NAME, 40 * "b")


def test_a_gated_repository_takes_a_token(hub, repository, monkeypatch):
    repository.is_gated = True
    with pytest.raises(
        BundleError, match=r"accept the terms at https://.*/owner/name and set HF_T"
    ):
        list_files(NAME, COMMIT)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert find().fetch().read_bytes() == CONTENT  # the store refuses requests with a token


def test_a_repository_that_is_not_there_is_one_line():
    with pytest.raises(BundleError, match="owner/none: not there, or private; see https"):
        list_files("owner/none", COMMIT)


@pytest.mark.parametrize("cause", ["offline", "closed"])
def test_no_network_is_one_line_that_says_what_to_do(monkeypatch, cause):
    if cause == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    else:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BundleError, match=r"give .* with --generator FILE") as raised:
        list_files(NAME, COMMIT)
    assert "\n" not in str(raised.value)
