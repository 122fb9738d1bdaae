"""JSON read into dataclasses, with every key and type checked."""

import json
import math
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


def parse_json(text: bytes) -> Any:
    """Decoded JSON without NaN, infinity and repeated keys, which Python would let pass.

    Raises:
        ValueError: what is wrong and where.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_distinct)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def from_json(kind: Any, value: Any, where: str = "", **given: Any) -> Any:
    """`value` as `kind`: a dataclass, dict[str, ...], tuple[..., ...], optional or plain type.

    Args:
        value: decoded JSON.
        where: name of the value for messages.
        given: fields of the dataclass `kind` that do not come from `value`.

    Raises:
        ValueError: names the value, what it is and what it must be.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _fields(kind, value, where, given)
    if origin is UnionType:  # only `... | None` occurs
        return None if value is None else from_json(parts[0], value, where)
    if origin is dict:
        _expect(value, dict, "an object", where)
        items = {from_json(str, key, f"a key of {where}"): item for key, item in value.items()}
        return {key: from_json(parts[1], item, f"{where}.{key}") for key, item in items.items()}
    if origin is tuple:
        _expect(value, list, "a list", where)
        return tuple(from_json(parts[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if kind is float and type(value) is int:
        value = float(value)
    _expect(value, kind, _NAMES[kind], where)
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{where} is not finite")
    if kind is str and not value.isprintable():  # it would garble the messages it stands in
        raise ValueError(f"{where} is {value!r:.40}, want printable characters")
    return value


def _fields(kind: Any, value: Any, where: str, given: dict[str, Any]) -> Any:
    """The dataclass `kind` from a JSON object that has its fields and no other keys."""
    _expect(value, dict, "an object", where or "the whole")
    types = get_type_hints(kind)
    prefix = f"{where}." if where else ""
    names = [field.name for field in fields(kind) if field.name not in given]
    required = {field.name for field in fields(kind) if field.default is MISSING} - set(given)
    if unknown := sorted(value.keys() - set(names)):
        raise ValueError(f"unknown key {prefix + unknown[0]!r:.60}; valid are {', '.join(names)}")
    if missing := sorted(required - value.keys()):
        raise ValueError(f"key {prefix}{missing[0]} is missing")
    values = {key: from_json(types[key], item, prefix + key) for key, item in value.items()}
    return kind(**given, **values)


def _expect(value: Any, kind: type, name: str, where: str) -> None:
    if type(value) is not kind:  # not isinstance: true is no whole number
        found = "null" if value is None else repr(value)
        raise ValueError(f"{where} is {found:.40}, want {name}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {repeated!r:.60} stands twice")
    return content
