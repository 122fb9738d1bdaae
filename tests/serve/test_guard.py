"""Who comes in: names, pages of other sites, tokens, and those who only hold a connection."""

import base64
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from keyvid.serve import connections, guard
from keyvid.serve.guard import Guard
from keyvid.serve.hosts import Hosts, is_same_origin
from keyvid.serve.tokens import Attempts, Tokens
from tests.serve.conftest import StandIn
from tests.serve.live import listening

pytestmark = pytest.mark.security

Serve = Callable[..., TestClient]
Order = Callable[..., dict[str, Any]]
TOKEN = {"authorization": "Bearer secret"}


@pytest.mark.parametrize(
    ("listens_at", "more", "known", "unknown"),
    [
        (
            "127.0.0.1",
            (),
            ("localhost", "LOCALHOST:7860", "127.0.0.1:1", "127.9.9.9", "[::1]:7860"),
            (
                *("evil.example", "192.168.1.9", "localhost.evil.example", "", "[", "0.0.0.0"),
                *("localhost/evil", "localhost#evil.com", "evil@localhost", "localhost:x"),
                *("localhost?", "localhost:1:2", "[localhost]", "::1", "localhost\n", "[::1]x"),
            ),
        ),
        ("192.168.1.9", (), ("192.168.1.9:7860", "localhost"), ("192.168.1.8", "evil.example")),
        ("0.0.0.0", (), ("10.0.0.7", "[fe80::1]:80"), ("evil.example", "10.0.0.7.evil.example")),
        ("::", ("Clips.example",), ("clips.example", "[fd00::7]"), ("evil.example",)),
        ("127.0.0.1", ("*",), ("evil.example", "10.0.0.7"), ("a@b",)),
    ],
)
def test_names_of_the_server(
    listens_at: str, more: tuple[str, ...], known: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    hosts = Hosts.of(listens_at, more)
    assert [name for name in known if not hosts.know(name)] == []
    assert [name for name in unknown if hosts.know(name)] == []


def test_a_foreign_name_reads_nothing(serve: Serve) -> None:
    """A page whose name means this machine for a moment (DNS rebinding)."""
    client = serve()
    for method, path in (
        ("GET", "/"),
        ("GET", "/clips/x"),
        ("POST", "/clips"),
        ("GET", "/metrics"),
    ):
        answer = client.request(method, path, headers={"host": "evil.example:7860"})
        assert answer.status_code == 421
        assert "--allow-host" in answer.json()["detail"]
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "host", "is_same"),
    [
        ("http://localhost:7860", "localhost:7860", True),
        ("https://clips.example", "clips.example", True),
        ("https://clips.example:443", "clips.example", True),
        ("http://localhost:7861", "localhost:7860", False),
        ("http://127.0.0.1:7860", "localhost:7860", False),
        ("null", "localhost", False),
        ("http://localhost:x", "localhost", False),
        ("", "localhost", False),
    ],
)
def test_what_is_the_same_site(origin: str, host: str, is_same: bool) -> None:
    assert is_same_origin(origin, host) == is_same


def test_pages_of_others_change_nothing(serve: Serve, order: Order, pipeline: StandIn) -> None:
    client = serve()
    pipeline.may_go_on.clear()
    own = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
    job = client.post("/clips", **order(), headers=own)
    assert job.status_code == 202
    for foreign in (
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:8000"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        for method, path in (("POST", "/clips"), ("DELETE", job.headers["location"])):
            answer = client.request(method, path, headers=foreign)
            assert answer.status_code == 403, foreign
    assert client.get(job.headers["location"]).status_code == 200, "it is still there"
    assert "access-control-allow-origin" not in job.headers


def client_of(tokens: Tokens) -> TestClient:
    """A guarded application that says who is let in."""

    async def say_who(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(scope["state"]["client"])(scope, receive, send)

    return TestClient(Guard(say_who, tokens, Hosts()), "http://localhost")


def test_whoever_has_no_token_learns_nothing() -> None:
    client = client_of(Tokens.of_one("secret"))
    for path in ("/", "/metrics", "/static/main.js", "/v1/videos", "/healthz/", "/readyz/x"):
        assert client.get(path).status_code == 401
    for path in ("/healthz", "/readyz"):
        assert client.get(path).text == "testclient"


@pytest.mark.parametrize(
    ("header", "is_let_in"),
    [
        (b"Bearer secret", True),
        (b"bearer  secret ", True),
        (b"Basic " + base64.b64encode(b"anybody:secret"), True),
        (b"basic " + base64.b64encode(b":secret"), True),
        (b"Basic " + base64.b64encode(b"secret"), False),
        (b"Basic " + base64.b64encode(b"secret:"), False),
        (b"Basic secret", False),
        (b"Basic s\xe9cret", False),
        (b"Bearer secre", False),
        (b"Bearer secrets", False),
        (b"Digest secret", False),
        (b"secret", False),
        (b"", False),
    ],
)
def test_tokens(header: bytes, is_let_in: bool) -> None:
    answer = client_of(Tokens.of_one("secret")).get("/clips", headers={"authorization": header})
    assert (answer.status_code == 200) == is_let_in


def test_clients_are_known_by_name(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("anna AAAAAAAAAAAAAAAA\nbert BBBBBBBBBBBBBBBB\n")
    client = client_of(Tokens.of_file(tmp_path / "tokens") | Tokens.of_one("shared"))
    for token, name in (("A" * 16, "anna"), ("B" * 16, "bert"), ("shared", "testclient")):
        assert client.get("/", headers={"authorization": f"Bearer {token}"}).text == name
    assert client.get("/", headers={"authorization": "Bearer C"}).status_code == 401


def test_wrong_tokens_are_slowed() -> None:
    """Not even the right one is looked at meanwhile: else one could try as fast as one likes."""
    client = client_of(Tokens.of_one("secret"))
    for _ in range(Attempts.most):
        assert client.get("/", headers={"authorization": "Bearer no"}).status_code == 401
    for token in ("no", "secret"):
        answer = client.get("/", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
    assert client.get("/").status_code == 401, "a missing token is not a wrong one"
    assert client.get("/healthz").status_code == 200


def test_browsers_are_told_to_be_strict(serve: Serve, order: Order) -> None:
    client = serve(token="secret")
    allowed = {"authorization": "Bearer secret"}
    for path, status in (("/", 200), ("/docs", 200), ("/clips/x", 404), ("/healthz", 200)):
        answer = client.get(path, headers=allowed)
        assert answer.status_code == status
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in answer.headers
    assert client.get("/").headers["x-content-type-options"] == "nosniff", "refused ones too"


@pytest.fixture
def half_sent(
    live: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, list[socket.socket]]]:
    """A server, and two hundred connections to it that do not say what they want."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 600.0)  # their number is what counts here
    url = live()
    port = int(url.rpartition(":")[2])
    with ExitStack() as stack:
        sockets = []
        for index in range(200):
            sockets.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)))
            if index % 2:
                sockets[-1].sendall(b"POST /clips HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        yield url, sockets


def test_half_sent_requests_lock_nobody_out(half_sent: tuple[str, list[socket.socket]]) -> None:
    url, sockets = half_sent
    for _ in range(20):
        assert httpx2.get(f"{url}/healthz", timeout=5).status_code == 200
    assert httpx2.get(f"{url}/model", timeout=5).status_code == 200
    is_closed = [waits_no_longer(one) for one in sockets]
    assert 0 < is_closed.count(False) <= connections.MOST_WAITING_OF_ONE
    assert all(is_closed[:100]), "the oldest have gone"


def test_half_sent_requests_end_by_themselves(
    live: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    port = int(live().rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 10) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert slow.recv(1000).startswith(b"HTTP/1.1 200")
        begun = time.monotonic()
        while time.monotonic() - begun < 10:  # a byte now and then is no request
            try:
                slow.sendall(b"G")
            except ConnectionError:
                break
            time.sleep(0.1)
        assert time.monotonic() - begun < 5


def waits_no_longer(connection: socket.socket) -> bool:
    """Whether the server has closed it."""
    connection.settimeout(0.01)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_many_requests_at_a_time(
    serve: Serve, pipeline: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MOST_OF_ONE", 0)
    client = serve()
    answer = client.get("/model")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert client.get("/healthz").status_code == 200
    monkeypatch.setattr(guard, "MOST_OF_ONE", 1)
    for _ in range(3):
        assert client.get("/model").status_code == 200, "one after the other is not at a time"


def test_only_so_much_is_held_at_a_time() -> None:
    """Of bodies that are here while their orders wait; one address may take a quarter."""
    app = FastAPI()

    @app.post("/")
    async def take(request: Request) -> int:
        return len(await request.body())

    guarded = Guard(app, None, Hosts(), most_bytes=4000)
    client = TestClient(guarded, "http://localhost", client=("a", 1))
    for _ in range(10):
        assert client.post("/", content=bytes(1000)).json() == 1000, "one after the other"
    for held, is_taken in (
        ({"a": 1000}, True),
        ({"a": 1001}, False),
        ({"b": 4000}, True),
        ({"b": 4001}, False),
    ):
        guarded._held.update(held)
        answer = client.post("/", content=b"more")
        assert answer.status_code == (200 if is_taken else 503)
        assert answer.headers.get("retry-after") == (None if is_taken else "2")
        assert guarded._held == held, "what was sent is forgotten with the request"
        guarded._held.clear()


@pytest.mark.parametrize("path", ["/pieces", "/whole"])
@pytest.mark.parametrize("kind", ["keep-alive", "close"])
def test_unread_answers_end_by_themselves(
    path: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is in the making, and one that only waits for the client to read."""
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.4)
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    size, piece = 64 << 20, bytes(1 << 16)
    app = FastAPI()
    app.get("/pieces")(lambda: StreamingResponse(piece for _ in range(size // len(piece))))
    app.get("/whole")(lambda: Response(bytes(size)))
    with listening(app) as url, socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        lazy.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        lazy.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: {kind}\r\n\r\n".encode())
        received = len(lazy.recv(1 << 16))
        time.sleep(1.5)
        lazy.settimeout(10)
        with suppress(ConnectionError):
            while part := lazy.recv(1 << 20):
                received += len(part)
    assert received < size / 2


def test_slow_readers_get_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is still to be read when the server would close."""
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 1.0)
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    size = 6 << 20
    app = FastAPI()
    app.get("/")(lambda: Response(bytes(size)))
    with listening(app) as url, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        slow.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        slow.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = 0
        while part := slow.recv(1 << 18):
            received += len(part)
            time.sleep(0.02)
    assert received > size
