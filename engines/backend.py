"""What all engines need to deal with backends, which are optional and foreign code."""

import importlib
from typing import Any

from keyvid.engines.errors import EngineError


def import_backend(name: str) -> Any:
    """The module of a backend whose package on the index has the same name.

    Raises:
        EngineError: it is not installed or its import fails; says what to do.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            raise EngineError(f"not installed; pip install {name}") from None
        raise EngineError(f"{name} needs {error.name}; pip install {name} again") from None
    except Exception as error:  # a broken installation may raise anything
        raise EngineError(f"its import fails: {first_line(error)}; install {name} again") from error


def first_line(error: BaseException) -> str:
    """The first line of the error's message, or its type where there is none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
