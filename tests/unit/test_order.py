"""The order of a room's messages, whatever comes when."""

import random

import pytest

from chat.order import Order


@pytest.fixture
def order():
    order = Order()
    order.begin(0)
    return order


def numbers(ready):
    assert all(item == f"m{seq}" for seq, item in ready)
    return [seq for seq, _ in ready]


def take(order, *seqs):
    return [seq for each in seqs for seq in numbers(order.take(each, f"m{each}"))]


def found(*seqs):
    return [(seq, f"m{seq}") for seq in seqs]


def test_what_comes_in_order_is_passed_on_at_once(order):
    assert take(order, 1) == [1]
    assert take(order, 2) == [2]
    assert not order.is_behind


@pytest.mark.parametrize("seed", range(20))
def test_in_whatever_order_and_however_often_they_come(order, seed):
    coming = [*range(1, 30), *range(1, 30)]
    random.Random(seed).shuffle(coming)
    assert take(order, *coming) == list(range(1, 30))
    assert not order.is_behind


def test_what_is_missing_is_noticed_and_filled(order):
    assert take(order, 1, 4, 6) == [1]
    assert order.is_behind
    assert numbers(order.fill(found(2, 3, 4), 4)) == [2, 3, 4]
    assert order.is_behind
    assert numbers(order.fill(found(5, 6), 6)) == [5, 6]
    assert not order.is_behind
    assert take(order, 2, 5, 6) == []


def test_a_fill_that_comes_late_doubles_nothing(order):
    assert take(order, 2, 1, 3) == [1, 2, 3]
    assert numbers(order.fill(found(1, 2), 2)) == []
    assert numbers(order.fill(found(2, 3, 4), 4)) == [4]
    assert order.position == 4


def test_what_is_gone_from_the_database_is_not_waited_for(order):
    assert take(order, 3) == []
    assert numbers(order.fill(found(1, 3), 3)) == [1, 3]
    order.expect(5)
    assert order.is_behind
    assert numbers(order.fill([], 5)) == []
    assert (order.is_behind, order.position) == (False, 5)


def test_more_than_comes_at_once_is_filled_in_pieces(order):
    assert take(order, 6) == []
    assert numbers(order.fill(found(1, 2), 2)) == [1, 2]
    assert order.is_behind
    assert numbers(order.fill(found(3, 4, 5), 5)) == [3, 4, 5, 6]


def test_before_the_beginning_is_known_all_waits():
    order = Order()
    assert take(order, 7, 5, 6, 9) == []
    assert not order.is_behind
    before, ready = order.begin(6)
    assert (numbers(before), numbers(ready)) == ([5, 6], [7])
    assert order.is_behind


def test_it_goes_back_with_the_database(order):
    assert take(order, 1, 2, 3, 5) == [1, 2, 3]
    order.go_back(1)
    assert not order.is_behind
    assert take(order, 2, 3) == [2, 3]


def test_of_what_came_before_the_beginning_only_that_counts_behind_which_nothing_is_missing():
    order = Order()
    assert take(order, 1, 3, 4) == []
    before, ready = order.begin(4)
    assert (numbers(before), ready) == ([3, 4], [])
    order = Order()
    assert take(order, 3, 4) == []
    assert order.begin(5) == ([], [])
    assert take(order, 5, 6) == [6]


def test_of_what_waits_only_so_much_is_kept(order, monkeypatch):
    monkeypatch.setattr("chat.order.MAX_EARLY", 3)
    assert take(order, *range(2, 10)) == []
    assert len(order._early) == 3
    assert take(order, 1) == [1, 2, 3, 4]
    assert (order.is_behind, order.newest) == (True, 9)
    assert numbers(order.fill(found(*range(5, 10)), 9)) == [5, 6, 7, 8, 9]
    assert not order.is_behind
