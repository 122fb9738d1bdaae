"""Webhooks: signed, told apart from what should be tried again, and never to our own network."""

import base64
import hashlib
import hmac
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from keyvid.errors import SettingsError
from keyvid.serve import dispatch, webhook
from keyvid.serve.limits import Limits
from keyvid.serve.webhook import DeliveryError, check_url, deliver, parse_secret, sign

SECRET = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
CERTIFICATE = Path(__file__).parent / "localhost.pem"  # of "localhost", and its key; until 2126


class Receiver(HTTPServer):
    """Keeps what it gets, and answers with `status`."""

    status = 204

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.headers: dict[str, str] = {}
        self.got: list[tuple[str, dict[str, str], bytes]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: some of the senders leave early, and are meant to."""


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.got.append((self.path, headers, body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address_of(receiver: Receiver, host: str = "localhost", scheme: str = "http") -> str:
    return f"{scheme}://{host}:{receiver.server_port}/done?key=hidden"


def send(url: str, allow_private: bool = True) -> None:
    deliver(url, b'{"id": "x"}', SECRET, message_id="msg_1", allow_private=allow_private)


def test_the_signature_is_the_specifications() -> None:
    headers = sign(
        b'{"test": 2432232314}', SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330
    )
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-signature"] == expected


def test_a_message_arrives_signed(receiver: Receiver) -> None:
    send(address_of(receiver))
    ((path, headers, body),) = receiver.got
    assert (path, body) == ("/done?key=hidden", b'{"id": "x"}')
    assert headers["webhook-id"] == "msg_1"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5
    content = f"msg_1.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(SECRET, content, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"localhost:{receiver.server_port}"


@pytest.mark.parametrize("status", [200, 201, 299])
def test_2xx_is_success(receiver: Receiver, status: int) -> None:
    receiver.status = status
    send(address_of(receiver))


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500])
def test_others_are_to_be_tried_again(receiver: Receiver, status: int) -> None:
    receiver.status = status
    with pytest.raises(DeliveryError, match=f"answered {status}, expected 2xx") as error:
        send(address_of(receiver))
    assert "hidden" not in str(error.value)


def test_who_is_gone_gets_no_more(receiver: Receiver) -> None:
    receiver.status = 410
    with pytest.raises(SettingsError, match="410 Gone"):
        send(address_of(receiver))


@pytest.mark.security
def test_redirects_are_not_followed(receiver: Receiver) -> None:
    receiver.status = 307
    receiver.headers = {"Location": address_of(receiver, "127.0.0.1")}
    with pytest.raises(DeliveryError, match="answered 307"):
        send(address_of(receiver))
    assert len(receiver.got) == 1


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DeliveryError, match="refused; it is tried again"):
        send(f"http://127.0.0.1:{port}/")

    def look_up(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(DeliveryError, match="not known; it is tried again"):
        send("http://nowhere.invalid/")


@contextmanager
def dripping(answer: bytes) -> Iterator[str]:
    """A receiver that sends `answer` byte by byte, slowly, again and again."""
    is_over = threading.Event()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            while not is_over.is_set():
                try:
                    connection.sendall(answer)
                except OSError:
                    return
                is_over.wait(0.05)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=[server])
        thread.start()
        yield f"//127.0.0.1:{server.getsockname()[1]}/"
        is_over.set()
        thread.join()


@pytest.mark.security
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("answer", [b"", b"H", b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n"])
def test_slow_receivers_hold_nobody(
    scheme: str, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "SECONDS", 0.3)
    begun = time.monotonic()
    with dripping(answer) as url, pytest.raises(DeliveryError, match="tried again"):
        send(f"{scheme}:{url}")
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://a.example/", "file:///etc/passwd", "//a.example/", "a.example", "", "http://"),
        *("http://me:secret@a.example/", "http://me@a.example/", "http://a.example:99999/"),
        *("http://a.example/\r\nX: y", "http://a.example/ö", "http://a b.example/", "http://[::1"),
        *("http://a.example:0/", "http://a.example/" + "a" * 2000, "http://a.example:x/"),
    ],
)
def test_what_is_no_address(url: str) -> None:
    for attempt in (lambda: check_url(url), lambda: send(url)):
        with pytest.raises(SettingsError, match="want an address such as https"):
            attempt()


PRIVATE = [
    *("127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "0.0.0.0"),
    *("169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255", "198.18.0.1"),
    *("::1", "::", "fe80::1", "fd00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1"),
    *("::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
    *("64:ff9b:1::7f00:1", "2002:7f00:1::", "2001::1", "fd00:ec2::254"),
]


@pytest.mark.security
def test_addresses_of_our_own_network() -> None:
    assert [text for text in PRIVATE if webhook.is_public(ip_address(text))] == []
    public = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
    assert [text for text in public if not webhook.is_public(ip_address(text))] == []


@pytest.mark.security
def test_public_addresses_of_this_machine_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_own_addresses", lambda: {ip_address("8.8.8.8")})
    assert not webhook.is_public(ip_address("8.8.8.8"))
    assert webhook.is_public(ip_address("8.8.4.4"))
    monkeypatch.undo()
    assert ip_address("127.0.0.1") in webhook._own_addresses()


@pytest.mark.security
@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"]
)
def test_nothing_goes_to_this_machine(receiver: Receiver, host: str) -> None:
    with pytest.raises(SettingsError, match="no address of the public internet"):
        send(address_of(receiver, host), allow_private=False)
    assert not receiver.got


@pytest.mark.security
def test_an_order_with_such_an_address_can_be_refused_at_once() -> None:
    for url in ("http://127.0.0.1/", "https://[fd00::1]:8080/x", "http://169.254.169.254/latest"):
        with pytest.raises(SettingsError, match="no address of the public internet"):
            check_url(url)
        check_url(url, allow_private=True)
    check_url("https://clips.example/done?a=b")


@pytest.mark.security
def test_a_name_is_looked_up_once(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that means a public address when it is checked, and this machine the next time."""
    asked: list[object] = []
    real = socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **named: Any) -> Any:
        asked.append(host)
        answers = ["192.0.2.1", "127.0.0.1"] if host == "rebinding.example" else [host]
        return real(answers[min(asked.count(host), len(answers)) - 1], *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(webhook, "is_public", lambda address: not address.is_loopback)
    monkeypatch.setattr(webhook, "SECONDS", 0.2)
    with pytest.raises(DeliveryError):
        send(address_of(receiver, "rebinding.example"), allow_private=False)
    assert not receiver.got
    assert asked.count("rebinding.example") == 1


@pytest.mark.security
def test_one_private_address_among_public_ones_is_enough(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def both(host: Any, *rest: Any, **named: Any) -> Any:
        return real("8.8.8.8", *rest, **named) + real("127.0.0.1", *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(SettingsError, match="leads to no address"):
        send(address_of(receiver, "both.example"), allow_private=False)
    assert not receiver.got


@pytest.mark.security
def test_certificates_are_checked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    url = address_of(receiver, scheme="https")
    with pytest.raises(DeliveryError, match="certificate verify failed"):
        send(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    send(url)
    with pytest.raises(DeliveryError, match="certificate verify failed"):
        send(url.replace("localhost", "127.0.0.1"))
    assert len(receiver.got) == 1


@pytest.mark.parametrize("make", [webhook.new_secret, lambda: base64.b64encode(bytes(24)).decode()])
def test_secrets(make: Callable[[], str]) -> None:
    assert 24 <= len(parse_secret(f"{make()}\n")) <= 64


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_short", "secret!", "whsec_" + "A" * 100])
def test_what_is_no_secret(text: str) -> None:
    with pytest.raises(SettingsError, match="make one with: echo whsec_"):
        parse_secret(text)


def test_the_clip_is_there_as_long_as_messages_are_sent() -> None:
    """Unless somebody chooses a shorter time than the default."""
    waits = dispatch._FIRST_WAIT_SECONDS * (2 ** (dispatch._MOST_DELIVERIES - 1) - 1)
    assert waits + dispatch._MOST_DELIVERIES * webhook.SECONDS < Limits().keep_seconds
