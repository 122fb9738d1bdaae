"""Webhooks: a signed POST to an address of the client's choice, outside of our own network.

Signed as https://www.standardwebhooks.com says, so that its libraries can check it. Whoever orders
a clip chooses the address, so it must not lead to what only this machine can reach. What counts is
the IP address that is connected to: a name could mean another one when it is looked up again.
"""

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.parse import SplitResult, urlsplit

import psutil

from keyvid.errors import KeyvidError, SettingsError
from keyvid.serve.secret_file import secret_in

SECONDS = 15.0  # for a delivery, from connecting to the status of the answer

_SECRET_PREFIX = "whsec_"
_SECRET_BYTES = (24, 64)  # as the specification has it
_LONGEST_URL = 2000  # characters
_PORTS = {"http": 80, "https": 443}
_GONE = 410  # by the specification: the receiver wants no more
_ALLOCATED = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


class DeliveryError(KeyvidError):
    """A webhook has not arrived; it should be tried again later."""


def new_secret() -> str:
    """A secret to sign with, as `parse_secret` reads it."""
    return _SECRET_PREFIX + base64.b64encode(os.urandom(32)).decode()


def parse_secret(text: str) -> bytes:
    """The key in a text such as "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".

    Raises:
        SettingsError: it holds none.
    """
    least, most = _SECRET_BYTES
    try:
        key = base64.b64decode(text.strip().removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not least <= len(key) <= most:
        raise SettingsError(
            f"the webhook secret is not {_SECRET_PREFIX} and {least} to {most} bytes in base64; "
            f"make one with: echo {_SECRET_PREFIX}$(openssl rand -base64 32)"
        )
    return key


def check_url(url: str, allow_private: bool = False) -> None:
    """Refuse what no webhook could be sent to, without looking up its name.

    Raises:
        SettingsError: says what is wrong with it.
    """
    host = _parse(url).hostname
    assert host is not None, "it was checked"
    try:
        address = ip_address(host)
    except ValueError:
        return
    if not allow_private:
        _check_public(url, address)


def deliver(
    url: str, body: bytes, secret: bytes, *, message_id: str, allow_private: bool = False
) -> None:
    """POST a JSON text to `url`; returns when the receiver says that it has it.

    Args:
        secret: the key to sign with.
        message_id: the same each time that a message is sent, so that its receiver knows it again.
        allow_private: whether the receiver may be in our own network.
    Raises:
        DeliveryError: it has not arrived, and should be tried again.
        SettingsError: it should not: the address is not allowed, or wants no more (410).
    """
    parts = _parse(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Content-Type": "application/json", "User-Agent": f"keyvid/{version('keyvid')}"}
    try:
        with _connected(url, parts, allow_private) as connection:
            signed = sign(body, secret, message_id, int(time.time()))
            connection.request("POST", path, body, {**headers, **signed})
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise DeliveryError(f"webhook {_shown(url)}: {reason}; it is tried again later") from error
    if status == _GONE:
        raise SettingsError(f"webhook {_shown(url)}: answered 410 Gone; it is not sent again")
    if not 200 <= status < 300:
        raise DeliveryError(
            f"webhook {_shown(url)}: answered {status}, expected 2xx; it is tried again later"
        )


def message_of(order: str, outcome: Mapping[str, Any]) -> str:
    """What is sent when a job has ended, as JSON.

    Args:
        outcome: as `keyvid.serve.maker.Maker.make` gives it.
    """
    ended = datetime.fromtimestamp(outcome["ended"], UTC).isoformat()
    job = {"id": order, "state": outcome["state"], "error": outcome["error"]}
    return json.dumps({"type": "clip.ended", "timestamp": ended, "data": job})


def read_secret(file: Path) -> bytes:
    """The key in a file, made where there is none.

    Raises:
        SettingsError: it holds none, or cannot be written.
    """
    try:
        return parse_secret(secret_in(file, lambda: f"{new_secret()}\n".encode()).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be used for the webhook secret: {error}") from error


def sign(body: bytes, secret: bytes, message_id: str, timestamp: int) -> dict[str, str]:
    """The headers that prove who sent a message and when.

    Args:
        timestamp: seconds since 1970.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret, content, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _parse(url: str) -> SplitResult:
    advice = "want an address such as https://clips.example/done"
    if len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise SettingsError(
            f"webhook {_shown(url)}: is longer than {_LONGEST_URL} characters, or has others than "
            f"those of an address; {advice}"
        )
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.username is not None:
        raise SettingsError(
            f"webhook {_shown(url)}: is no address of http or https, or has a user in it; {advice}"
        )
    return parts


@contextmanager
def _connected(
    url: str, parts: SplitResult, allow_private: bool
) -> Iterator[http.client.HTTPConnection]:
    """A connection to an address that was checked, ended when it takes too long."""
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    deadline = time.monotonic() + SECONDS
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not allow_private:
        for address in addresses:
            _check_public(url, ip_address(address))
    connection = http.client.HTTPConnection(host, port)
    with _first_to_answer(addresses, port, deadline) as raw:
        # The time limit of a socket is for each read; a receiver could send a byte now and then.
        timer = Timer(deadline - time.monotonic(), _end, [raw])
        timer.daemon = True
        timer.start()
        try:
            if parts.scheme == "https":
                context = ssl.create_default_context()
                connection.sock = context.wrap_socket(raw.dup(), server_hostname=host)
            else:
                connection.sock = raw.dup()
            yield connection
        finally:
            timer.cancel()
            connection.close()


def _first_to_answer(addresses: list[str], port: int, deadline: float) -> socket.socket:
    """A connection to the first address that takes one.

    Raises:
        OSError: none does, in time.
    """
    failure: OSError = TimeoutError("no connection in time")
    for address in addresses:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            return socket.create_connection((address, port), left)
        except OSError as error:
            failure = error
    raise failure


def _end(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)


def _check_public(url: str, address: Address) -> None:
    if is_public(address):
        return
    raise SettingsError(
        # Not to which: what a name means in our own network is nothing for strangers.
        f"webhook {_shown(url)}: leads to no address of the public internet; choose another, or "
        "let the server allow it"
    )


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, and not to this machine."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(IPv4Address(address.packed[-4:]))
        if address not in _ALLOCATED or address.sixtofour or address.teredo:
            return False
    return address.is_global and not address.is_multicast and address not in _own_addresses()


def _own_addresses() -> set[Address]:
    """Those of this machine's network interfaces, of which some may be public."""
    families = (socket.AF_INET, socket.AF_INET6)
    return {
        ip_address(address.address.partition("%")[0])
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in families
    }


def _shown(url: str) -> str:
    """An address for a message, without its query, which may hold a secret."""
    return ascii(url.partition("?")[0][:80])[1:-1]
