from threading import Thread
from time import sleep

import pytest

from keyvid.runtime.turns import Turns


def test_first_come_first_served():
    turns, order = Turns(), []

    def work(name):
        with turns:
            order.append(name)

    with turns:
        threads = [Thread(target=work, args=[name]) for name in range(8)]
        for thread in threads:
            thread.start()
            sleep(0.01)  # so that they come one after the other
        assert order == []
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_an_error_hands_the_turn_on():
    turns = Turns()
    with pytest.raises(ValueError, match="mine"), turns:
        raise ValueError("mine")
    with turns:
        pass
