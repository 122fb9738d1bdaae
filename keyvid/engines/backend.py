"""Backends are optional, and foreign: imported here, without the telemetry that they start."""

import importlib
import os
import re
import sys
from typing import Any

from keyvid.errors import EngineError

_CONVERTER = "openvino.tools.ovc"
_PLACE = re.compile(
    r"Exception from |Check '.*' failed at |Loading input model$|FrontEnd API failed"
)


def import_onnxruntime(install: str) -> Any:
    """The onnxruntime package, which comes with the package `install`.

    From 1.29 on its import sends an event and leaves a device id in the home folder; an
    environment variable that is set before prevents both. One that is set already is kept.

    Raises:
        EngineError: it cannot be imported; says what to do.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return import_package("onnxruntime", install)


def import_openvino(install: str) -> Any:
    """The openvino package, which comes with the package `install`.

    Its import takes its converter along, which takes as long as all else, sends an event and leaves
    a client id in the home folder; where the converter fails to import, it goes without.

    Raises:
        EngineError: it cannot be imported; says what to do.
    """
    if "openvino" in sys.modules:
        return import_package("openvino", install)
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # its import fails
    try:
        return import_package("openvino", install)
    finally:
        del sys.modules[_CONVERTER]


def import_cudart() -> Any:
    """The CUDA runtime of cuda-python.

    Raises:
        EngineError: it cannot be imported; says what to do.
    """
    return import_package("cuda.bindings.runtime", install="cuda-python")


def import_package(name: str, install: str = "") -> Any:
    """The module of that name, which comes with the package `install`.

    Raises:
        EngineError: it is missing or broken; says what to do.
    """
    install = install or name
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            what = "" if install == name else f"{name} is "
            raise EngineError(f"{what}not installed; pip install {install}") from None
        raise EngineError(f"{name} needs {error.name}; install {install} again") from None
    except Exception as error:  # a broken installation may raise anything
        why = first_line(error)
        raise EngineError(f"its import fails: {why}; install {install} again") from error


def first_line(error: BaseException) -> str:
    """The first line of the error's message that says why, or its type where there is none.

    OpenVINO first says where in its sources it was, and in which phase.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if not _PLACE.match(line)]
    return (reasons or lines or [type(error).__name__])[0]
