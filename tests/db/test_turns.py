"""Who asks first is served first, even where the last one comes back at once."""

import threading

import pytest

from db.turns import NoTurn, Turns
from tests.waiting import wait_until


def test_places_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    turns = Turns(1, seconds=10)
    served: list[int] = []

    def ask(number: int) -> None:
        with turns.turn():
            served.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(5)]
    with turns.turn():
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(lambda: turns.waiting > number)  # noqa: B023 - called before the loop goes on
    ask(5)  # by the one who has just left
    for thread in threads:
        thread.join()
    assert served == [0, 1, 2, 3, 4, 5]


def test_there_are_as_many_places_as_were_given() -> None:
    turns = Turns(2, seconds=0.01)
    with turns.turn(), turns.turn(), pytest.raises(NoTurn, match="there was no turn"), turns.turn():
        pass
    assert turns.waiting == 0
    with turns.turn(), turns.turn():
        pass


def test_a_place_is_free_again_after_an_error() -> None:
    turns = Turns(1, seconds=0.01)
    for _ in range(2):
        with pytest.raises(ValueError, match="wrong"), turns.turn():
            raise ValueError("wrong")
