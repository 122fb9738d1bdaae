"""Turns: whose files are decoded while others wait."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, HTTPException

from keyvid.errors import SettingsError
from keyvid.serve.turns import Turns
from tests.serve.live import listening

pytestmark = pytest.mark.security


async def stays() -> bool:
    return False


async def has_left() -> bool:
    return True


def test_one_client_waits_for_itself_and_not_others_for_it() -> None:
    async def scene() -> list[str]:
        turns, told, may_end = Turns(2), [], asyncio.Event()

        async def take(client: str) -> None:
            async with turns.turn(client, stays):
                told.append(client)
                await may_end.wait()

        tasks = [asyncio.create_task(take(client)) for client in ("anna", "anna", "bert", "carl")]
        for _ in range(20):
            await asyncio.sleep(0)
        begun = [*told]
        may_end.set()
        await asyncio.gather(*tasks)
        assert sorted(told) == ["anna", "anna", "bert", "carl"]
        assert not turns._of_one, "nobody is remembered"
        return begun

    assert asyncio.run(scene()) == ["anna", "bert"]


def test_who_has_left_has_no_turn() -> None:
    async def scene() -> None:
        turns = Turns(1)
        with pytest.raises(HTTPException, match="the client has left"):
            async with turns.turn("anna", has_left):
                raise AssertionError
        async with turns.turn("anna", stays):
            pass

    asyncio.run(scene())


def test_orders_of_who_hangs_up_are_not_decoded(
    make: Callable[..., FastAPI],
    order: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = make()
    taken: list[float] = []
    may_end = threading.Event()

    async def take(*_: Any) -> None:
        taken.append(time.monotonic())
        while not may_end.is_set():
            await asyncio.sleep(0.01)
        raise SettingsError("enough")

    monkeypatch.setattr(app.state.workshop, "take", take)
    with listening(app) as url:
        first = threading.Thread(target=httpx2.post, args=[f"{url}/clips"], kwargs=order())
        first.start()
        while not taken:
            time.sleep(0.01)
        with suppress(httpx2.TimeoutException):
            httpx2.post(f"{url}/clips", **order(), timeout=0.5)
        time.sleep(0.5)  # until the server has heard of it
        may_end.set()
        first.join()
        assert httpx2.post(f"{url}/clips", **order()).json() == {"detail": "enough"}
    assert len(taken) == 2
