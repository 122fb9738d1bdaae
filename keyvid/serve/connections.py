"""Connections: who has one and says nothing makes room for those who ask."""

from asyncio import BaseTransport, TimerHandle
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0  # until the head of a request has to be here
MOST_WAITING = 256  # connections that have asked nothing, or not to the end
MOST_WAITING_OF_ONE = 64  # address


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that waits for the head of a request for a while, and for few at a time.

    The oldest of too many is closed, so that a new one is always heard.
    """

    _deadline: TimerHandle | None = None  # while it waits for a head

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin to wait."""
        super().connection_made(transport)  # type: ignore[arg-type] # asyncio's own signature
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Stop waiting when a head is complete."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it is here already."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)
        others = cast("set[PatientProtocol]", self.connections)
        waiting = [other for other in others if other._deadline]
        of_one = [other for other in waiting if other._address == self._address]
        for crowd, most in ((of_one, MOST_WAITING_OF_ONE), (waiting, MOST_WAITING)):
            if len(crowd) > most:
                oldest = min(crowd, key=lambda other: other._deadline.when())  # type: ignore[union-attr]
                oldest._stop_waiting()
                oldest.transport.close()

    def _stop_waiting(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""
