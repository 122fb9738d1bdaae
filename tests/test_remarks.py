"""Remarks reach whoever collects them, and nobody else's do."""

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from keyvid.remarks import collected, remark


def test_they_are_logged_and_collected(caplog: pytest.LogCaptureFixture) -> None:
    with collected() as remarks:
        remark("100 % silent")
    remark("later")
    assert remarks == ["100 % silent"]
    assert caplog.messages == ["100 % silent", "later"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_each_thread_has_its_own() -> None:
    together = Barrier(2)

    def work(name: str) -> list[str]:
        with collected() as remarks:
            together.wait(10)
            remark(name)
            together.wait(10)
        return remarks

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, "ab")) == [["a"], ["b"]]
