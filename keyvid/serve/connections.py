"""Connections: who has one and says nothing, or reads nothing, makes room for others."""

from asyncio import BaseTransport, TimerHandle
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from keyvid.serve.hosts import network_of

HEAD_SECONDS = 10.0  # until the head of a request has to be here
UNREAD_SECONDS = 60.0  # that an answer may wait without some of it being read
MOST_WAITING = 256  # connections that have asked nothing, or not to the end
MOST_WAITING_OF_ONE = 64  # address


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that waits for the head of a request for a while, and for few at a time.

    The oldest of too many is closed, so that a new one is always heard. It waits for a while for
    answers to be read, too; then it aborts, as closing would wait for the rest to be read.
    """

    _deadline: TimerHandle | None = None  # while it waits for a head
    _unread: TimerHandle | None = None  # while it waits for the client to read

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
        if self.cycle.response_complete:
            self._wait()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read: more than enough is to be sent."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """Stop waiting: most of it was read. When it is to be closed, the rest must be, too."""
        super().resume_writing()
        if self.transport.is_closing():
            self._wait_for_reader()
        else:
            self._stop_waiting_for_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_waiting()
        self._stop_waiting_for_reader()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._close)
        others = cast("set[PatientProtocol]", self.connections)
        waiting = [other for other in others if other._deadline]
        of_one = [other for other in waiting if other._network == self._network]
        for crowd, most in ((of_one, MOST_WAITING_OF_ONE), (waiting, MOST_WAITING)):
            if len(crowd) > most:
                oldest = min(crowd, key=lambda other: other._deadline.when())  # type: ignore[union-attr]
                oldest._stop_waiting()
                oldest.transport.abort()

    def _close(self) -> None:
        """Close it once the rest of an answer is read, or is not."""
        self.transport.close()
        self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        self._stop_waiting_for_reader()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def _stop_waiting_for_reader(self) -> None:
        if self._unread:
            self._unread.cancel()
            self._unread = None

    def _stop_waiting(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    @property
    def _network(self) -> str:
        return network_of(self.client[0]) if self.client else ""
