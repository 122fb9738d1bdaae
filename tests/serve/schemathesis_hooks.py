"""What a schema cannot say of a valid order: real pictures and sounds, times that fit them."""

import secrets

import schemathesis
from hypothesis import strategies
from schemathesis.generation import GenerationMode

from tests.serve.conftest import EXAMPLES

_FITTING = {
    "start": "0",
    "length": "1.5",
    "seconds": "1.5",
    "motion": "auto",
    "beats": "1",
    "track": 1,
    "webhook": "https://clips.example/done",
}

for kind, ending in (("image/png", "png"), ("audio/wav", "wav")):
    content = (EXAMPLES / f"drum.{ending}").read_bytes()
    schemathesis.openapi.media_type(kind, strategies.just(content))


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, object]
) -> None:
    """Make an order that is meant to be valid one that can be made."""
    if case.headers and "Idempotency-Key" in case.headers:  # each order is another one
        case.headers["Idempotency-Key"] = secrets.token_hex(8)
    is_valid = case.meta is None or case.meta.generation.mode is GenerationMode.POSITIVE
    if is_valid and isinstance(case.body, dict):
        if "beats" in case.body:  # which keyframes follow from
            case.body.pop("keyframes", None)
        for name, value in case.body.items():
            if name in _FITTING:
                case.body[name] = _FITTING[name]
            elif name == "keyframes" and "," in str(value):  # they would have to ascend
                case.body[name] = "uniform"
