"""The two TensorRTs: names, versions, the GPUs that they are for, and in what they differ."""

import logging
import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from keyvid.engines.backend import import_package
from keyvid.engines.gpu import Gpu
from keyvid.errors import EngineError, SettingsError

PORTABLE = "portable"
_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+)")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Library:
    """A TensorRT: both have the same API, and the same code drives them.

    Attributes:
        title: its name in messages.
        module: that is imported.
        extra: of keyvid, which installs it.
        oldest: the first version that is taken.
        capabilities: compute capabilities that it builds plans for on any machine, its kernels
            being compiled where they run; none where it times kernels on the very GPU.
        portable: those of a plan that is made for no GPU in particular.
    """

    title: str
    module: str
    extra: str
    oldest: tuple[int, int]
    capabilities: tuple[str, ...] = ()
    portable: tuple[str, ...] = ()

    @property
    def builds_ahead(self) -> bool:
        """Whether plans are built without the GPU that they are for."""
        return bool(self.capabilities)

    def check_installed(self) -> None:
        """Refuse to go on where the package is missing, with an EngineError; imports nothing."""
        if find_spec(self.module) is None:
            raise EngineError(f"{self.module} is not installed; pip install {self._install}")

    def load(self) -> Any:
        """The Python package.

        Raises:
            EngineError: it is missing, too old or broken; says what to do.
        """
        package = import_package(self.module, self._install)
        version = str(package.__version__)
        if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < self.oldest:
            oldest = ".".join(map(str, self.oldest))
            raise EngineError(
                f"{self.title} {version} found, want {oldest} or newer; "
                f"pip install -U {self._install}"
            )
        return package

    @property
    def _install(self) -> str:
        return f"'keyvid[{self.extra}]'"

    def check_card(self, gpu: Gpu) -> None:
        """Refuse a GPU that it does not run on, by name, with an EngineError."""
        if self.builds_ahead and gpu.compute_capability not in self.capabilities:
            raise EngineError(
                f"{gpu.name} has compute capability {gpu.compute_capability}; {self.title} runs on "
                f"{', '.join(self.capabilities)}; take another engine"
            )

    def parse_targets(self, text: str) -> tuple[str, ...]:
        """ "sm89,sm86" as ("sm86", "sm89"), and "portable" as it is.

        Raises:
            SettingsError: it names no GPU that plans can be built for.
        """
        valid = [_target(capability) for capability in self.capabilities]
        targets = {target.strip().lower() for target in text.split(",")}
        if targets == {PORTABLE}:
            return (PORTABLE,)
        if unknown := sorted(targets.difference(valid)):
            raise SettingsError(
                f"no target {unknown[0]!r} of {self.title}; valid: {PORTABLE}, or one or more of "
                f"{', '.join(valid)}"
            )
        return tuple(target for target in valid if target in targets)

    def target(self, gpu: Gpu) -> str:
        """The target that a GPU is."""
        return _target(gpu.compute_capability)

    def fits(self, targets: tuple[str, ...], gpu: Gpu) -> bool:
        """Whether a plan for `targets` is for that GPU."""
        if targets == (PORTABLE,):
            return gpu.compute_capability in self.portable
        return self.target(gpu) in targets


TENSORRT = Library(
    title="TensorRT",
    module="tensorrt",
    extra="tensorrt",
    oldest=(11, 0),
)
TENSORRT_RTX = Library(
    title="TensorRT for RTX",
    module="tensorrt_rtx",
    extra="rtx",
    oldest=(1, 7),
    capabilities=("7.5", "8.0", "8.6", "8.9", "12.0", "12.1"),
    portable=("8.6", "8.9", "12.0"),
)
LIBRARIES = {library.module: library for library in (TENSORRT, TENSORRT_RTX)}


def _target(capability: str) -> str:
    """ "8.9" as "sm89"."""
    return f"sm{capability.replace('.', '')}"


def make_logger(trt: Any) -> Any:
    """A logger for the package `trt`, which keeps what is asked for later.

    Its attribute `errors` holds what the library refused, in one line each, `activation_bytes`
    the memory that a plan needs beside its weights, where a build said so.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.activation_bytes = 0

        def log(self, severity: Any, msg: str) -> None:
            line = " ".join(msg.split())
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(line)
                log.debug("%s", line)
            elif severity == trt.ILogger.Severity.WARNING:
                log.warning("%s", line)
            elif found := _ACTIVATIONS.match(line):
                self.activation_bytes = max(self.activation_bytes, int(found[1]))

    return Logger()
