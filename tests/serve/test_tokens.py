"""Tokens: files of them, and how fast one may try."""

import hashlib
from pathlib import Path

import pytest

from keyvid.errors import SettingsError
from keyvid.serve import tokens as tokens_module
from keyvid.serve.tokens import Attempts, Tokens

pytestmark = pytest.mark.security

LONG = "x" * 16


def test_a_file_of_tokens(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"hidden in the file").hexdigest()
    path = tmp_path / "tokens"
    path.write_text(f"# ours\n\n anna {LONG} \nbert.b@c sha256:{digest}\nanna {LONG}2\n")
    tokens = Tokens.of_file(path)
    assert tokens.name_of(LONG.encode()) == "anna"
    assert tokens.name_of(f"{LONG}2".encode()) == "anna", "a new one beside the old"
    assert tokens.name_of(b"hidden in the file") == "bert.b@c"
    for unknown in (b"", digest.encode(), f"sha256:{digest}".encode(), LONG[1:].encode()):
        assert tokens.name_of(unknown) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no token"),
        ("# nothing\n", "holds no token"),
        ("\nanna\n", "line 2: want a name"),
        (f"an,na {LONG}", "line 1: want a name"),
        (f"anna {LONG} more", "want a name"),
        ("anna short", "anna's token has 5 characters, want 16 at least"),
        ("anna sha256:abc", "is not 64 hexadecimal digits"),
        (f"anna {LONG}\nbert {LONG}", "line 2: bert has the token of anna"),
    ],
)
def test_files_that_hold_none(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(SettingsError, match=message) as error:
        Tokens.of_file(tmp_path / "tokens")
    assert LONG not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read as a list of tokens"):
        Tokens.of_file(tmp_path / "tokens")


def test_no_token_at_all() -> None:
    assert Tokens.read(None, None, None) is None


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_may_try_often_at_first_and_then_now_and_then() -> None:
    clock = Clock()
    attempts = Attempts(most=3, seconds=2.0, clock=clock)
    for _ in range(3):
        assert attempts.seconds_to_wait("192.0.2.1") == 0
        attempts.count("192.0.2.1")
    assert attempts.seconds_to_wait("192.0.2.1") == 2
    assert attempts.seconds_to_wait("192.0.2.2") == 0
    clock.now += 2
    assert attempts.seconds_to_wait("192.0.2.1") == 0
    attempts.count("192.0.2.1")
    assert attempts.seconds_to_wait("192.0.2.1") == 2
    clock.now += 60
    for _ in range(3):
        assert attempts.seconds_to_wait("192.0.2.1") == 0, "all is forgiven"
        attempts.count("192.0.2.1")


def test_addresses_of_one_network_of_ipv6_are_one() -> None:
    attempts = Attempts(most=1)
    attempts.count("2001:db8:1:2::3")
    assert attempts.seconds_to_wait("2001:db8:1:2:ffff::1") > 0
    assert attempts.seconds_to_wait("2001:db8:1:3::3") == 0


def test_many_addresses_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "_MOST_ADDRESSES", 10)
    attempts = Attempts(most=1)
    for number in range(100):
        attempts.count(f"192.0.2.{number}")
    assert len(attempts._free_at) == 10
    assert attempts.seconds_to_wait("192.0.2.99") > 0
