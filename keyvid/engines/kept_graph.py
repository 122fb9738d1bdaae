"""What an engine for the CPU made of a graph, kept for the processes after this one.

Opening a graph is mostly compiling it. What came of it is kept in the user's cache, under all that
it depends on, and given back only if every byte is as it was written. Nothing here fails: without a
cache that can be used, graphs are compiled each time.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from keyvid.bundle.external_data import external_files
from keyvid.bundle.files import known_sha256
from keyvid.engines import processor
from keyvid.engines.cache import Cache, graph_folder, key_of
from keyvid.errors import EngineError

# With weights. Larger graphs compute for so long that opening them does not matter.
MOST_BYTES_OF_GRAPH = 128 << 20
MOST_BYTES = 1 << 30

_WAIT_SECONDS = 5.0  # for another process that keeps a graph
_KEEPING = threading.Lock()  # threads compile the graphs of a bundle at once, and each is kept

log = logging.getLogger(__name__)


class KeptGraph:
    """The place in the cache of a graph as an engine compiles it.

    Attributes:
        content: what is kept there, None if there is nothing that can be used.
    """

    def __init__(self, graph: Path, kind: str, version: str, settings: dict[str, object]) -> None:
        """Look at the place of the ONNX file at the absolute path `graph`.

        Args:
            kind: what the engine makes of it, in words.
            version: of the engine's library.
            settings: all that it is compiled with.
        """
        self.content: bytes | None = None
        self._graph = graph
        self._facts = {
            "kind": kind,
            "version": version,
            "settings": repr(sorted(settings.items())),
            "processor": processor.fingerprint(),
        }
        self._cache: Cache | None = None
        try:
            if not is_small(graph):
                return
            self._ingredients = self._describe()
            self._cache = Cache(graph_folder())
            self.content = self._cache.get(self._ingredients)
        except (EngineError, OSError, ValueError) as error:
            log.info("%s: is compiled: %s", graph.name, error)

    def keep(self, make: Callable[[], bytes]) -> None:
        """Keep what `make` gives, which was compiled from the graph since this place was found."""
        if self._cache is None:
            return
        try:
            if self._describe() != self._ingredients:
                return  # a file changed meanwhile: nobody knows which content was compiled
            content = make()
            with _KEEPING:
                self._cache.put(
                    self._ingredients, content, wait=_WAIT_SECONDS, most_bytes=MOST_BYTES
                )
        except (EngineError, OSError, ValueError) as error:
            log.info("%s: is not kept: %s", self._graph.name, error)

    def _describe(self) -> dict[str, str]:
        names = sorted(external_files(self._graph))
        return {
            **self._facts,
            "file": self._graph.name,
            "graph": known_sha256(self._graph),
            "weights": key_of({name: known_sha256(self._graph.with_name(name)) for name in names}),
        }


def is_small(graph: Path) -> bool:
    """Whether opening a graph takes long beside its calls, by the size of it and what it reads."""
    files = [graph, *map(graph.with_name, external_files(graph))]
    return sum(file.stat().st_size for file in files) <= MOST_BYTES_OF_GRAPH
