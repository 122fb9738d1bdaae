"""A server with the part of the Hub's interface that downloads use, to break as one likes.

Large files are pointers in git and lie on another host, at addresses that are signed and expire;
small ones are redirected within the same host. Errors carry the Hub's codes.
"""

import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import parse_qs, quote, unquote, urlsplit

_LARGE = {".ckpt", ".pth", ".bin"}
_PAGE = 3  # entries of a listing that come at once


@cache
def _checksum(content, is_large):
    if is_large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repository:
    """Files by path, of each commit by its hash; a branch leads to one of them."""

    commits: dict[str, dict[str, bytes]]
    main: str
    is_gated: bool = False

    def commit(self, revision):
        return self.main if revision == "main" else revision


@dataclass
class StandInHub:
    """What the two servers share.

    Attributes:
        stated: path to the checksum that is claimed for it, where it lies.
        budget: bytes of large files that are sent before every connection breaks.
        stall_at: the same, before a connection says no more, for the file of that name only.
        uses: requests that a signed address is good for.
        requests: method, path and first byte, of large files with the name of the file.
        sent: bytes of large files by name.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    stated: dict[str, str] = field(default_factory=dict)
    budget: int | None = None
    stall_at: tuple[str, int] | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    uses: int = 100
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    signed: dict[str, tuple[str, bytes, int]] = field(default_factory=dict)
    url: str = ""
    store: str = ""

    def checksum(self, path, content):
        """As the Hub states it: sha256 of a large file, git's sha1 of a small one."""
        if path in self.stated:
            return self.stated[path]
        return _checksum(content, PurePosixPath(path).suffix in _LARGE)

    def sign(self, path, content):
        """An address of a large file."""
        key = f"{len(self.signed)}"
        self.signed[key] = (PurePosixPath(path).name, content, self.uses)
        return f"{self.store}/{self.checksum(path, content)}?Signature={key}"

    def downloads(self, name=None):
        """First bytes of the downloads of large files, or of the one of that name."""
        return [
            start
            for method, path, start in self.requests
            if method == "STORE" and name in (None, path)
        ]


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def reply(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    @property
    def first_byte(self):
        return int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])


class _HubAnswer(_Answer):
    """huggingface.co: listings, and where files lie."""

    def answer(self):
        hub = self.server.hub
        address = urlsplit(self.path)
        hub.requests.append((self.command, unquote(address.path), self.first_byte))
        segments = address.path.strip("/").split("/")
        if segments[:2] == ["api", "resolve-cache"]:
            return self.send_small(hub, *segments[2:5], unquote("/".join(segments[5:])))
        if segments[:2] == ["api", "models"]:
            segments = segments[2:]
        name, (kind, revision) = "/".join(segments[:2]), map(unquote, segments[2:4])
        repository = hub.repositories.get(name)
        if repository is None:
            return self.reply(404, X_Error_Code="RepoNotFound")
        if repository.is_gated and "Authorization" not in self.headers:
            return self.reply(401, X_Error_Code="GatedRepo")
        commit = repository.commit(revision)
        files = repository.commits.get(commit)
        if files is None:
            return self.reply(404, X_Error_Code="RevisionNotFound")
        if kind == "revision":
            return self.reply(200, json.dumps({"id": name, "sha": commit}).encode())
        if kind == "tree":
            return self.list_tree(hub, files, address)
        path = unquote("/".join(segments[4:]))
        return self.resolve(hub, name, commit, path, files.get(path))

    def list_tree(self, hub, files, address):
        entries = []
        for path, content in files.items():
            entry = {"type": "file", "oid": hub.checksum(path, content), "size": len(content)}
            entry["path"] = path
            if PurePosixPath(path).suffix in _LARGE:
                entry["lfs"] = {"oid": entry["oid"], "size": len(content), "pointerSize": 135}
                entry["oid"] = hashlib.sha1(entry["oid"].encode()).hexdigest()
                entry["xetHash"] = 64 * "e"
            entries.append(entry)
        folders = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
        entries += [
            {"type": "directory", "oid": 40 * "d", "size": 0, "path": f} for f in sorted(folders)
        ]
        start = int(parse_qs(address.query).get("cursor", ["0"])[0])
        headers = {}
        if start + _PAGE < len(entries):
            headers["Link"] = (
                f'<{hub.url}{address.path}?recursive=true&cursor={start + _PAGE}>; rel="next"'
            )
        body = json.dumps(entries[start : start + _PAGE]).encode()
        return self.reply(200, body, **headers)

    def resolve(self, hub, name, commit, path, content):
        if content is None:
            return self.reply(404, X_Error_Code="EntryNotFound")
        checksum = hub.checksum(path, content)
        if PurePosixPath(path).suffix not in _LARGE:
            location = f"/api/resolve-cache/{commit}/{name}/{quote(path)}"
            return self.reply(307, Location=location, X_Repo_Commit=commit)
        return self.reply(
            302,
            Location=hub.sign(path, content),
            X_Repo_Commit=commit,
            X_Linked_Etag=f'"{checksum}"',
            X_Linked_Size=str(len(content)),
            X_Xet_Hash=64 * "e",
        )

    def send_small(self, hub, commit, owner, name, path):
        content = hub.repositories[f"{owner}/{name}"].commits[commit][path]
        return self.reply(
            200, content, ETag=f'"{hub.checksum(path, content)}"', X_Repo_Commit=commit
        )


class _StoreAnswer(_Answer):
    """The store of large files, which takes signed addresses and no tokens."""

    def answer(self):
        hub = self.server.hub
        (key,) = parse_qs(urlsplit(self.path).query)["Signature"]
        name, content, uses = hub.signed[key]
        if "Authorization" in self.headers:
            return self.reply(400)
        if uses == 0:
            return self.reply(403)
        hub.signed[key] = (name, content, uses - 1)
        start = self.first_byte
        hub.requests.append(("STORE", name, start))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        return self.send(hub, name, content[start:], start)

    def send(self, hub, name, content, start):
        stall = hub.stall_at[1] - start if hub.stall_at and hub.stall_at[0] == name else None
        part = content[: hub.budget][:stall]
        hub.sent[name] = hub.sent.get(name, 0) + self.wfile.write(part)
        if stall is not None and stall < len(content):
            self.wfile.flush()
            hub.stalled.set()
            hub.released.wait(60)
        if hub.budget is not None:
            hub.budget -= len(part)
        if len(part) < len(content):
            self.close_connection = True


@contextmanager
def serve_hub():
    """A stand-in that answers meanwhile."""
    hub = StandInHub()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in (_HubAnswer, _StoreAnswer)]
    for server in servers:
        server.hub, server.daemon_threads = hub, True
    hub.url, hub.store = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
