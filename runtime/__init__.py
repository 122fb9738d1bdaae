"""The runtime: from an image and a sound to a clip, on NumPy and engines."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyvid.engines.errors import KeyvidError
    from keyvid.runtime.pipeline import Clip, Pipeline
    from keyvid.runtime.settings import Settings

__all__ = ["Clip", "KeyvidError", "Pipeline", "Settings"]

_HOMES = {
    "Clip": "keyvid.runtime.pipeline",
    "KeyvidError": "keyvid.engines.errors",
    "Pipeline": "keyvid.runtime.pipeline",
    "Settings": "keyvid.runtime.settings",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: the command line shows its help at once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
