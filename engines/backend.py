"""Backends are optional, and foreign: imported here, without the telemetry that they start."""

import importlib
import os
import sys
from typing import Any

from keyvid.engines.errors import EngineError


def import_onnxruntime() -> Any:
    """The onnxruntime package.

    From 1.29 on its import sends an event and leaves a device id in the home folder; an
    environment variable that is set before prevents both. One that is set already is kept.

    Raises:
        EngineError: it cannot be imported; says what to do.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return _import("onnxruntime")


def import_openvino() -> Any:
    """The openvino package.

    Its import sends an event and leaves a client id in the home folder, unless its telemetry
    package fails to import: then it takes a stub of its own.

    Raises:
        EngineError: it cannot be imported; says what to do.
    """
    if "openvino" in sys.modules:
        return _import("openvino")
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # its import fails
    try:
        return _import("openvino")
    finally:
        del sys.modules["openvino_telemetry"]


def first_line(error: BaseException) -> str:
    """The first line of the error's message, or its type where there is none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            raise EngineError(f"not installed; pip install {name}") from None
        raise EngineError(f"{name} needs {error.name}; install {name} again") from None
    except Exception as error:  # a broken installation may raise anything
        raise EngineError(f"its import fails: {first_line(error)}; install {name} again") from error
