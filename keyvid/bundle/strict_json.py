"""JSON read into dataclasses by msgspec, with all refused that it or Python would let pass."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
# What msgspec calls a kind of value -> what a reader of the file calls it.
_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "an object",
    "str": "a string",
}
_STEP = re.compile(r"\.\w+|\[\d+\]|\[\.\.\.\]")  # of a path: a field, an index, any key


def parse_json(text: bytes) -> Any:
    """Decoded JSON without repeated keys, NaN, infinity, and texts that would garble a message.

    Raises:
        ValueError: what is wrong and where.
    """
    try:
        content = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_distinct)
        for where, value in _leaves(content):
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{where} is not finite")
            if isinstance(value, str) and not value.isprintable():
                raise ValueError(f"{where} is {value!r:.40}, want printable characters")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return content


def from_json(kind: type[T], content: Any) -> T:
    """`content`, as `parse_json` gives it, as the dataclass `kind` of dataclasses.

    Raises:
        ValueError: names the value, what it is and what it must be.
    """
    try:
        value = msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_explain(str(error), content, kind)) from None
    for where, key, valid in _unknown(content, asdict(value)):
        raise ValueError(f"unknown key {where + key!r:.60}; valid are {', '.join(valid)}")
    return value


def _explain(message: str, content: Any, kind: Any) -> str:
    """msgspec's message with the whole path, the value that stands there and what is valid."""
    problem, _, path = message.partition(" - at `$")
    where = ""
    for step in _STEP.findall(path):
        if step == "[...]":
            kind = get_args(kind)[1]
            key = next(key for key, value in content.items() if not _fits(value, kind))
            content, where = content[key], f"{where}.{key}"
        elif step[0] == "[":
            kind, content, where = get_args(kind)[0], content[int(step[1:-1])], where + step
        else:
            kind = get_type_hints(kind, include_extras=True)[step[1:]]
            content, where = content[step[1:]], where + step
        if get_origin(kind) is UnionType:  # only `... | None` occurs
            (kind,) = (part for part in get_args(kind) if part is not NoneType)
    where = where.removeprefix(".")
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", problem):
        return f"key {where}{'.' if where else ''}{missing[1]} is missing"
    found = "null" if content is None else repr(content)
    wanted = " or ".join(get_args(kind)) if get_origin(kind) is Literal else _in_words(problem)
    return f"{where or 'the whole'} is {found:.40}, want {wanted}"


def _in_words(problem: str) -> str:
    """ "Expected `int` >= 1, got `str`" as "a whole number >= 1"."""
    wanted = problem.removeprefix("Expected ").partition(", got ")[0].replace(" | null", "")
    return re.sub(r"`(\w+)`", lambda kind: _WORDS.get(kind[1], kind[1]), wanted)


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _unknown(content: Any, known: Any, where: str = "") -> Iterator[tuple[str, str, list[str]]]:
    """Place, key and the valid keys for each key of `content` that `known` lacks."""
    if isinstance(content, list):
        for index, (item, known_item) in enumerate(zip(content, known, strict=True)):
            yield from _unknown(item, known_item, f"{where[:-1]}[{index}].")
    elif isinstance(content, dict):
        for key, item in content.items():
            if key not in known:
                yield where, key, list(known)
            else:
                yield from _unknown(item, known[key], f"{where}{key}.")


def _leaves(content: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Texts, numbers, booleans and nulls by their place; keys as texts too."""
    if isinstance(content, dict):
        for key, item in content.items():
            yield f"a key of {where or 'the whole'}", key
            yield from _leaves(item, f"{where}.{key}" if where else key)
    elif isinstance(content, list):
        for index, item in enumerate(content):
            yield from _leaves(item, f"{where}[{index}]")
    else:
        yield where, content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {repeated!r:.60} stands twice")
    return content
