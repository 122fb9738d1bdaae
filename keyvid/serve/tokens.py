"""Tokens: who may come in, by which name, and how fast others may try.

A token is random and long, so that its SHA-256 can be kept without more ado: nobody finds it by
trying, as one would find a password.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from pathlib import Path

from keyvid.counting import counted
from keyvid.errors import SettingsError
from keyvid.serve.hosts import network_of

SHORTEST = 16  # characters of a token that stands beside a name
_LINE = re.compile(r"(?P<name>[A-Za-z0-9._@-]{1,64})\s+(?P<token>\S+)")
_HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")
_MOST_ADDRESSES = 10_000  # that are remembered


@dataclass(frozen=True)
class Tokens:
    """Those that are known.

    Attributes:
        names: of clients by the SHA-256 of their tokens; "" for one without a name.
    """

    names: Mapping[bytes, str]

    @classmethod
    def of_one(cls, token: str) -> "Tokens":
        """The one token that all clients share."""
        return cls({_digest(token.encode()): ""})

    @classmethod
    def of_file(cls, path: Path) -> "Tokens":
        """Those of a file with a line "NAME TOKEN" or "NAME sha256:HEX" for each client.

        Raises:
            SettingsError: it cannot be read, or holds something else.
        """
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: cannot be read as a list of tokens: {error}") from error
        names: dict[bytes, str] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                name, digest = _read_line(line.strip())
            except ValueError as error:
                raise SettingsError(f"{path}, line {number}: {error}") from None
            if names.setdefault(digest, name) != name:
                raise SettingsError(
                    f"{path}, line {number}: {name} has the token of {names[digest]}; "
                    "give each client one of its own"
                )
        if not names:
            raise SettingsError(f"{path}: holds no token; want lines such as: anna TOKEN")
        return cls(names)

    @classmethod
    def read(cls, one: str | None, file: Path | None, several: Path | None) -> "Tokens | None":
        """All that are asked for, None for none.

        Args:
            one: the token itself, as it stands in KEYVID_TOKEN; `file` goes before it.
            file: with one token alone.
            several: see `of_file`.
        Raises:
            SettingsError: a file cannot be read, or a token is empty.
        """
        source = "KEYVID_TOKEN"
        if file is not None:
            source = str(file)
            try:
                one = file.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"{file}: cannot be read as a token: {error}") from error
        if one is not None and not one.strip():
            raise SettingsError(
                f"{source}: the token is empty, which would let everybody in; "
                "put one there, or leave it out"
            )
        found = [] if several is None else [cls.of_file(several)]
        if one is not None:
            found.append(cls.of_one(one.strip()))
        return reduce(or_, found) if found else None

    def __or__(self, other: "Tokens") -> "Tokens":
        return Tokens({**self.names, **other.names})

    def name_of(self, token: bytes) -> str | None:
        """The name of who has this token, None if nobody has; takes as long for each."""
        digest = _digest(token)
        found = None
        for known, name in self.names.items():
            if secrets.compare_digest(digest, known):
                found = name
        return found


@dataclass
class Attempts:
    """How often wrong tokens come from an address: many at first, then few.

    Right ones from there have to wait, too; else one could try as fast as one likes.

    Attributes:
        most: wrong tokens that an address may send at once.
        seconds: after which it may send one more.
    """

    most: int = 20
    seconds: float = 1.0
    clock: Callable[[], float] = time.monotonic
    _free_at: dict[str, float] = field(default_factory=dict)  # when nothing is held against it

    def seconds_to_wait(self, address: str) -> float:
        """Until a token from there is looked at, 0 for now."""
        free_at = self._free_at.get(network_of(address), 0.0)
        return max(free_at - self.clock() - (self.most - 1) * self.seconds, 0.0)

    def count(self, address: str) -> None:
        """A wrong token came from there."""
        now = self.clock()
        network = network_of(address)
        free_at = max(self._free_at.pop(network, now), now) + self.seconds
        if len(self._free_at) >= _MOST_ADDRESSES:
            self._free_at = {key: at for key, at in self._free_at.items() if at > now}
        if len(self._free_at) >= _MOST_ADDRESSES:
            del self._free_at[next(iter(self._free_at))]  # whose last one is the longest ago
        self._free_at[network] = free_at


def _read_line(line: str) -> tuple[str, bytes]:
    """Name and digest of a line.

    Raises:
        ValueError: it is none; says no more of a token than needed.
    """
    matched = _LINE.fullmatch(line)
    if matched is None:
        raise ValueError(
            "want a name of letters, digits and ._@- and a token, such as: anna TOKEN, "
            "or anna sha256:HEX"
        )
    name, token = matched["name"], matched["token"]
    if hashed := _HASHED.fullmatch(token):
        return name, bytes.fromhex(hashed[1])
    if token.startswith("sha256:"):
        raise ValueError(f"the SHA-256 of {name}'s token is not 64 hexadecimal digits")
    if len(token) < SHORTEST:
        raise ValueError(
            f"{name}'s token has {counted(len(token), 'character')}, want {SHORTEST} at least; "
            "make one with: openssl rand -hex 32"
        )
    return name, _digest(token.encode())


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
