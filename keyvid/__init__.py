"""Animate a picture to a sound: the face of the package.

    from keyvid import Pipeline

    clip = Pipeline.load()("hammer.png", "hammer.wav")
    clip.save("hammer.mp4")

Public names are imported when they are first asked for, so that `import keyvid` takes milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyvid.errors import KeyvidError
    from keyvid.runtime.clip import Clip
    from keyvid.runtime.pipeline import Pipeline
    from keyvid.sampling import Settings

__all__ = ["Clip", "KeyvidError", "Pipeline", "Settings", "__version__"]

_HOMES = {
    "Clip": "keyvid.runtime.clip",
    "KeyvidError": "keyvid.errors",
    "Pipeline": "keyvid.runtime.pipeline",
    "Settings": "keyvid.sampling",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: `import keyvid` takes milliseconds."""
    if name == "__version__":
        return import_module("importlib.metadata").version("keyvid")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
