"""Whatever stands in a manifest or a tokenizer: one line, no traceback."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.structure import check_complete
from keyvid.bundle.tokenizer import TOKENIZER, tokenize
from keyvid.errors import KeyvidError

PACKAGED = Bundle.load("tiny", verify=False).path
VALUES = [
    *(0, 1, -1, 7, 10**6, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, 1e-308, True, False, None),
    *("", "x", "windows", "full", "paper", "\ud800", "a\nb", "../x", "/etc/passwd"),
    *([], [1], [0] * 5, {}, {"a": 1}),
]


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """One to three places are deleted, added or given another value; rarely the text is cut."""
    content = json.loads(data)
    for _ in range(rng.choice([1, 1, 2, 3])):
        node: Any = content
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = rng.choice(keys)
            value = node[key]
            if isinstance(value, dict | list) and value and rng.random() < 0.85:
                node = value
                continue
            _change(node, key, value, rng)
            break
        if not content:
            break
    text = json.dumps(content)
    if rng.random() < 0.05:
        text = text[: rng.randrange(len(text))]
    return text.encode()


def _change(node: Any, key: Any, value: Any, rng: random.Random) -> None:
    kind = rng.random()
    if kind < 0.2:
        del node[key]
    elif kind < 0.3 and isinstance(node, dict):
        node[rng.choice(["x", "steps", "file", "\x1b", ""])] = rng.choice(VALUES)
    elif kind < 0.6 and type(value) in (int, float):
        node[key] = rng.choice([value + 1, value - 1, value * 2, -value, value * 1000, value // 2])
    else:
        node[key] = rng.choice(VALUES)


def refusal(action: Callable[[], object]) -> str:
    try:
        action()
    except KeyvidError as error:
        return str(error)
    return ""


@pytest.mark.long
def test_manifests(tmp_path: Path) -> None:
    """Nearly all are refused; what is not was a change of something that is only told."""
    for path in PACKAGED.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "bundle.json").unlink()
    original, refused = (PACKAGED / "bundle.json").read_bytes(), 0
    for seed in range(100):
        (tmp_path / "bundle.json").write_bytes(mutate_json(original, random.Random(seed)))
        said = refusal(lambda: check_complete(Bundle.load(tmp_path)))
        refused += bool(said)
        assert not said or said.isprintable()
        assert len(said) < 1500
    assert refused > 75


def test_tokenizers(tmp_path: Path) -> None:
    original, refused = (PACKAGED / TOKENIZER).read_bytes(), 0
    for seed in range(200):
        (tmp_path / TOKENIZER).write_bytes(mutate_json(original, random.Random(seed)))
        said = refusal(lambda: tokenize(tmp_path / TOKENIZER, ["", "a hammer"], 16, 512))
        refused += bool(said)
        assert not said or said.isprintable()
    assert refused > 100
