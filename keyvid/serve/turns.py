"""Turns: files of orders are decoded few at a time, and of one client one after the other."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from anyio import CapacityLimiter
from fastapi import HTTPException


class Turns:
    """Who may go ahead now.

    A decoder may compute for seconds and take hundreds of megabytes, however small its file is. So
    there are few of them, and one client's files wait for each other, not others for them.

    Args:
        at_a_time: turns of all clients together.
    """

    def __init__(self, at_a_time: int = 2) -> None:
        self._all = CapacityLimiter(at_a_time)
        self._of_one: WeakValueDictionary[str, CapacityLimiter] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(
        self, client: str, has_left: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[None]:
        """Wait for the client's turn, which lasts as long as the block.

        Raises:
            HTTPException: nobody waits for what would be done any more.
        """
        own = self._of_one.setdefault(client, CapacityLimiter(1))
        async with own, self._all:
            if await has_left():
                raise HTTPException(400, "the client has left")
            yield
