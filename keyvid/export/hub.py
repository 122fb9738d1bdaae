"""Files of repositories on the Hugging Face Hub: listed at a commit, downloaded, checked.

`hf_hub_download` begins anew in each process, which is too dear for files of ten gigabytes.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._headers import build_hf_headers

from keyvid.bundle.files import known_sha256
from keyvid.bundle.specs import SourceSpec
from keyvid.errors import BundleError
from keyvid.folders import cache_folder

_LIBRARY = "keyvid"  # as the Hub is told
_CHECKSUM = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository at a commit, as the Hub lists it.

    Attributes:
        repository: its owner and name.
        revision: the commit.
        path: in the repository.
        bytes: its size.
        checksum: sha256 of a large file, git's sha1 of another.
    """

    repository: str
    revision: str
    path: str
    bytes: int
    checksum: str

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    @property
    def local(self) -> Path:
        """Where it is kept once it is downloaded."""
        return default_folder() / f"{self.checksum}{PurePosixPath(self.path).suffix}"

    @property
    def is_large(self) -> bool:
        """Whether the Hub keeps it outside git, under its sha256."""
        return len(self.checksum) == 64

    @property
    def bytes_here(self) -> int:
        """How much of it has been downloaded."""
        paths = (self.local, _partial(self.local))
        return max((path.stat().st_size for path in paths if path.is_file()), default=0)

    def fetch(self) -> Path:
        """Its path here, downloaded if it is not there; goes on where an earlier call stopped.

        Raises:
            BundleError: it cannot be had, or is not what the Hub lists.
        """
        where, path = f"{self.repository}/{self.path}", self.local
        with _explained(self.repository, self.revision, where):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                self._download()
        if (found := _hash_like(path, self.checksum)) != self.checksum:
            path.unlink()
            raise BundleError(
                f"{where}: checksum {found[:12]}..., the Hub lists {self.checksum[:12]}...; it was "
                "removed, run the same command again to download it anew"
            )
        return path

    def describe(self) -> SourceSpec:
        """What `bundle.json` says of it; a small file is downloaded for its sha256."""
        sha256 = self.checksum if self.is_large else known_sha256(self.fetch())
        return SourceSpec(self.bytes, sha256, self.repository, self.revision, self.path)

    def _download(self) -> None:
        import fcntl  # where there is none, the command refuses to start

        partial = _partial(self.local)
        with partial.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: another process
            if file.tell() > self.bytes:
                file.seek(file.truncate(0))
            while file.tell() < self.bytes:
                self._go_on(file)
        os.replace(partial, self.local)

    def _go_on(self, file: BinaryIO) -> None:
        """Append what is missing; returns early where the address expires or a connection ends."""
        start = file.tell()
        location = self._locate()
        is_hub = urlsplit(location).netloc == urlsplit(constants.ENDPOINT).netloc
        try:
            http_get(
                location,
                file,
                resume_size=start,
                headers=build_hf_headers(library_name=_LIBRARY) if is_hub else None,
                expected_size=self.bytes,
                displayed_filename=self.name,
            )
        except Exception:  # which ones depends on the HTTP client of the Hub's library
            if file.tell() <= start:
                raise

    def _locate(self) -> str:
        """The address to download from, which is good for a while."""
        url = hf_hub_url(self.repository, self.path, revision=self.revision)
        metadata = get_hf_file_metadata(url, library_name=_LIBRARY)
        found = (metadata.commit_hash, metadata.size, metadata.etag)
        if found != (self.revision, self.bytes, self.checksum):
            raise ValueError(
                f"revision, size and checksum are {found}, "
                f"listed as {(self.revision, self.bytes, self.checksum)}"
            )
        return metadata.location


def default_folder() -> Path:
    """Where downloads are kept."""
    return cache_folder("released")


def list_files(repository: str, revision: str) -> list[HubFile]:
    """The files of a repository at a commit, or at the one that a branch or tag leads to now.

    Raises:
        BundleError: it cannot be listed; says what to do.
    """
    constants.HF_HUB_DISABLE_TELEMETRY = True  # it would look for what runs it and send that
    api = HfApi(library_name=_LIBRARY)
    with _explained(repository, revision, repository):
        commit = api.model_info(repository, revision=revision).sha or ""
        if not _COMMIT.fullmatch(commit) or (_COMMIT.fullmatch(revision) and commit != revision):
            raise ValueError(f"revision {revision} is answered with {commit or 'none'!r:.60}")
        entries = list(api.list_repo_tree(repository, revision=commit, recursive=True))
        return [
            _listed(repository, commit, entry) for entry in entries if isinstance(entry, RepoFile)
        ]


def _listed(repository: str, commit: str, entry: RepoFile) -> HubFile:
    checksum = entry.lfs.sha256 if entry.lfs else entry.blob_id
    size = entry.lfs.size if entry.lfs else entry.size
    if not _CHECKSUM.fullmatch(checksum):
        raise ValueError(f"{entry.path!r:.80} is listed without a checksum")
    return HubFile(repository, commit, entry.path, size, checksum)


@contextmanager
def _explained(repository: str, revision: str, where: str) -> Iterator[None]:
    """Whatever fails, as a BundleError with what can be done about it."""
    page = f"https://huggingface.co/{repository}"
    try:
        yield
    except OfflineModeIsEnabled:
        raise BundleError(
            f"{where}: HF_HUB_OFFLINE is set, so the Hub cannot be asked; unset it, or give "
            "local files with --generator FILE and so on"
        ) from None
    except GatedRepoError as error:
        raise BundleError(
            f"{where}: access is restricted; accept the terms at {page} and set HF_TOKEN to your "
            "token"
        ) from error
    except RepositoryNotFoundError as error:
        raise BundleError(
            f"{where}: not there, or private; see {page}, and set HF_TOKEN to a token that may "
            "read it"
        ) from error
    except RevisionNotFoundError as error:
        raise BundleError(
            f"{where}: has no revision {revision}; choose another with --revision, see "
            f"{page}/commits/main"
        ) from error
    except Exception as error:  # which ones depends on the HTTP client of the Hub's library
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{where}: cannot be downloaded from the Hub: {reason}; check network and disk and "
            "run the same command again to resume; or fetch the files from "
            f"{page} by other means and give them with --generator FILE and so on"
        ) from error


def _partial(path: Path) -> Path:
    return path.with_suffix(".incomplete")


def _hash_like(path: Path, stated: str) -> str:
    """Hash of a file, of the kind of the one that is `stated`: sha256, or git's sha1."""
    if len(stated) == 64:
        return known_sha256(path)
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
