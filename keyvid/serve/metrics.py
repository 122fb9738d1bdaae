"""Numbers for Prometheus."""

import platform
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_CLIP_SECONDS = (1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600)
_REQUEST_SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600)
_PACKAGES = ("keyvid", "onnxruntime", "openvino", "av", "pillow", "fastapi", "uvicorn")


class Metrics:
    """What a server has done so far, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.clips = Counter(
            "keyvid_clips", "Clips by how they ended", ["state"], registry=self._registry
        )
        self.refused = Counter(
            "keyvid_refused", "Orders that were not taken", ["reason"], registry=self._registry
        )
        self.clip_seconds = Histogram(
            "keyvid_clip_seconds",
            "Time to make a clip",
            buckets=_CLIP_SECONDS,
            registry=self._registry,
        )
        self.stage_seconds = Counter(
            "keyvid_stage_seconds", "Time in each stage", ["stage"], registry=self._registry
        )
        self.queue_seconds = Histogram(
            "keyvid_queue_seconds",
            "Time from an order to the beginning of work on it",
            buckets=_CLIP_SECONDS,
            registry=self._registry,
        )
        self.requests = Counter(
            "keyvid_http_requests",
            "Requests by how they were answered; status none: the client left",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self.request_seconds = Histogram(
            "keyvid_http_request_seconds",
            "Time from a request to the end of its answer",
            ["route"],
            buckets=_REQUEST_SECONDS,
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        Info("keyvid_build", "Versions", registry=self._registry).info(_versions())

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show what `value` gives at the time."""
        Gauge(name, text, registry=self._registry).set_function(value)

    def watch_disk(self, folder: Path) -> None:
        """Show how much is free where `folder` lies."""
        text = "Free bytes of the disk with the files of jobs"
        self.watch("keyvid_disk_free_bytes", text, lambda: shutil.disk_usage(folder).free)

    def text(self) -> bytes:
        """All numbers in Prometheus' format."""
        return generate_latest(self._registry)


def _versions() -> dict[str, str]:
    """Versions by the names of packages, those that are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
