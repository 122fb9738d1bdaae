"""Numbers for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_CLIP_SECONDS = (1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600)


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
        self.responses = Counter(
            "keyvid_http_responses", "Answers by status", ["status"], registry=self._registry
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show what `value` gives at the time."""
        Gauge(name, text, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All numbers in Prometheus' format."""
        return generate_latest(self._registry)
