"""Whose clip is next, when to come again, and when a clip is given up."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyvid.serve.scheduling import (
    Line,
    Pace,
    Patience,
    Rules,
    expected_starts,
    is_worth_a_try,
    work_of,
)


def make_next(line: Line) -> str:
    """Begin and end what is next."""
    order = line.waiting[0]
    line.begin(order)
    line.leave(order)
    return order


def learned(seconds_a_unit: float) -> Pace:
    pace = Pace()
    pace.learn(1.0, seconds_a_unit)
    return pace


def test_orders_of_one_client_are_made_as_they_came() -> None:
    line = Line(Rules())
    for order in "abc":
        line.join(order, "me", 5)
    assert [make_next(line) for _ in range(3)] == ["a", "b", "c"]


def test_who_orders_much_holds_up_others_by_one_clip() -> None:
    line = Line(Rules())
    for index in range(100):
        line.join(f"much{index}", "much", 10)
    line.begin("much0")
    line.join("one", "few", 10)
    assert line.waiting[0] == "one"
    assert line.num_before("one") == 1
    assert line.num_before("much1") == 2
    assert line.num_before("much0") == 0


def test_shares_are_of_work_and_not_of_clips() -> None:
    line = Line(Rules())
    for index in range(10):
        line.join(f"long{index}", "long", 30)
        line.join(f"short{index}", "short", 10)
    begun = Counter(make_next(line).rstrip("0123456789") for _ in range(8))
    assert begun == {"short": 6, "long": 2}


def test_a_client_who_always_orders_the_next_gets_no_more_than_its_share() -> None:
    """One long clip at a time, each ordered when the last is done, against a hundred short ones."""
    line = Line(Rules())
    for index in range(100):
        line.join(f"short{index}", "short", 1)
    line.join("long0", "long", 10)
    work: Counter[str] = Counter()
    for _ in range(60):
        order = make_next(line)
        client = order.rstrip("0123456789")
        work[client] += 10 if client == "long" else 1
        if client == "long":
            line.join(f"long{work.total()}", "long", 10)
    assert abs(work["long"] - work["short"]) <= 10


def test_what_is_cancelled_before_it_began_is_no_share() -> None:
    line = Line(Rules())
    line.join("other", "other", 10)
    for index in range(20):
        line.join(f"mine{index}", "me", 10)
    for index in range(20):
        line.leave(f"mine{index}")
    line.join("again", "me", 10)
    assert line.place("again").stamp == line.place("other").stamp == 1


def test_when_nobody_is_left_all_begin_anew() -> None:
    line = Line(Rules())
    line.join("a", "me", 10)
    make_next(line)
    assert line.join("b", "me", 10).stamp == 1
    assert "a" not in line
    assert "b" in line


def test_a_clip_that_was_broken_off_is_next() -> None:
    line = Line(Rules())
    line.join("a", "me", 10)
    line.join("b", "you", 10)
    line.begin("a")
    assert (line.running, line.waiting) == (["a"], ["b"])
    line.wait_again("a")
    assert (line.running, line.waiting) == ([], ["a", "b"])


def test_a_line_that_is_rebuilt_is_the_same() -> None:
    line, rebuilt = Line(Rules()), Line(Rules())
    for index in range(12):
        line.join(str(index), f"client{index % 3}", 1 + index % 5)
    for index in range(12):
        place = line.place(str(index))
        rebuilt.rejoin(str(index), place.client, place.work, place.stamp)
    assert rebuilt.waiting == line.waiting
    for some in (line, rebuilt):
        some.begin(some.waiting[0])
        some.join("new", "client1", 3)
    assert rebuilt.waiting == line.waiting


@given(st.lists(st.integers(1, 50), min_size=2, max_size=6), st.integers(0, 2**32))
def test_nobody_who_waits_falls_back_further_than_two_clips(works: list[int], seed: int) -> None:
    """The bound of start-time fair queueing: the shares of two who both wait differ by no more
    than the longest clip of each."""
    line, rng = Line(Rules()), random.Random(seed)
    orders = [client for client in range(len(works)) for _ in range(30)]
    rng.shuffle(orders)
    for index, client in enumerate(orders):
        line.join(f"{client}-{index}", str(client), works[client])
    done = Counter(dict.fromkeys(range(len(works)), 0))
    left = Counter(orders)
    while min(left.values()) > 0:
        client = int(make_next(line).partition("-")[0])
        done[client] += works[client]
        left[client] -= 1
        least, most = min(done, key=done.__getitem__), max(done, key=done.__getitem__)
        assert done[most] - done[least] <= works[most] + works[least]


def test_too_many_that_wait() -> None:
    line = Line(Rules(waiting=2))
    line.join("a", "me", 10)
    line.begin("a")
    for order in "bc":
        assert line.refusal("me", [5.0], 1, Pace()) is None
        line.join(order, "me", 10)
    refusal = line.refusal("you", [5.0], 1, Pace())
    assert refusal is not None
    assert (refusal.reason, refusal.num_waiting, refusal.retry_after) == ("queue", 2, 5.0)


def test_too_many_of_one_client() -> None:
    line = Line(Rules(waiting=9, waiting_of_one=2))
    for order in ("other1", "other2"):
        line.join(order, "other", 10)
    for order in ("mine1", "mine2"):
        line.join(order, "me", 10)
    line.begin("other1")
    pace = learned(0.5)
    assert line.refusal("other", [5.0], 1, pace) is None
    refusal = line.refusal("me", [7.0], 1, pace)
    assert refusal is not None
    assert (refusal.reason, refusal.num_waiting, refusal.retry_after) == ("client", 2, 7.0)
    line.begin("mine1")
    line.wait_again("other1")
    refusal = line.refusal("me", [7.0], 1, pace)
    assert refusal is None, "one of them is being made"


def test_nothing_may_wait() -> None:
    line = Line(Rules(waiting=0))
    refusal = line.refusal("me", [], 1, Pace())
    assert refusal is not None
    assert refusal.retry_after == 0


def test_when_clips_are_begun() -> None:
    pace = learned(0.5)
    assert expected_starts([4.0], [10, 10, 10], 1, pace) == [4, 9, 14]
    assert expected_starts([4.0, 1.0], [10, 10, 10], 2, pace) == [1, 4, 6]
    assert expected_starts([4.0], [10, 10], 2, pace) == [0, 4]
    assert expected_starts([], [10], 0, pace) == [0], "a worker is coming back"
    assert expected_starts([-3.0], [10], 1, pace) == [0], "it should have been done"


def test_the_pace_is_that_of_the_last_clips() -> None:
    pace = Pace()
    assert pace.seconds(77) == 10, "a first guess"
    pace.learn(10, 1000)
    for _ in range(8):
        pace.learn(10, 5)
    assert pace.seconds(20) == 10


def test_work_grows_with_steps_and_length() -> None:
    assert work_of(1, 10, 5) == pytest.approx(10 + 13 + 1.4)
    assert work_of(3, 10, 5) == pytest.approx(3 * work_of(1, 10, 5))


@pytest.mark.parametrize(
    ("crashes", "is_tried"),
    [
        ([], True),
        ([()], True),
        ([()] * 4, True),
        ([()] * 5, False),
        ([(0, 1, 5), ()], True),
        ([(0, 1, 5), (), (0, 1, 5)], False),
        ([(0, 1, 5), (0, 1, 5)], False),
        ([(0, 1, 5), (0, 1, 4)], False),
        ([(0, 1, 5), (0, 1, 6)], True),
        ([(0, 1, 5), (0, 1, 6), (0, 1, 6)], False),
        ([(0, 1, step) for step in range(4)], True),
        ([(0, 1, step) for step in range(5)], False),
    ],
)
def test_what_is_tried_after_a_crash(crashes: list[tuple[int, ...]], is_tried: bool) -> None:
    assert is_worth_a_try(crashes, len(crashes)) == is_tried


def test_what_ends_every_server_is_given_up_in_the_end() -> None:
    assert is_worth_a_try([], 19)
    assert not is_worth_a_try([], 20)


def test_how_long_a_step_may_take() -> None:
    patience = Patience(least=60, most=3600, factor=20)
    assert patience.seconds(None) == 3600, "networks may be opened or built before it"
    assert patience.seconds(0.2) == 60
    assert patience.seconds(9.0) == 180
    assert patience.seconds(1000.0) == 3600
