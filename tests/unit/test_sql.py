"""Statements in plain SQL: what stands in them for a value, on each of the two databases."""

from types import SimpleNamespace

import pytest
from django.db import connection

from chat import sql


@pytest.fixture(params=["postgresql", "sqlite"])
def vendor(request, monkeypatch):
    monkeypatch.setattr(sql, "connection", SimpleNamespace(vendor=request.param, ops=connection.ops))
    return request.param


def test_a_list_is_one_parameter_where_there_are_arrays(vendor):
    bound = sql._bound("SELECT 1 WHERE id IN ({ids}) AND x = {x} AND y = {y}", {"ids": [1, 2, 3], "x": "y", "y": 70000})
    assert (
        bound
        == {
            "postgresql": ("SELECT 1 WHERE id = ANY(%s) AND x = %s AND y = %s", ["{1,2,3}", "y", "70000"]),
            "sqlite": ("SELECT 1 WHERE id IN (%s, %s, %s) AND x = %s AND y = %s", [1, 2, 3, "y", 70000]),
        }[vendor]
    )


def test_tuples_are_rows(vendor):
    bound = sql._bound("VALUES {rows: bigint, text}", {"rows": [(1, "a"), (2, "b")]})
    assert (
        bound
        == {
            "postgresql": ("SELECT * FROM unnest(%s::bigint[], %s::text[])", ["{1,2}", '{"a","b"}']),
            "sqlite": ("VALUES (%s, %s), (%s, %s)", [1, "a", 2, "b"]),
        }[vendor]
    )


def test_a_statement_is_the_same_whatever_its_values_are():
    statement = "SELECT 1 WHERE id IN ({ids}) AND seq > {seq}"
    bound = [sql._bound_once(statement, {"ids": ids, "seq": seq}) for ids, seq in (([1], 1), ([2**40, 2], 2**40))]
    assert len({(text, *map(type, parameters)) for text, parameters in bound}) == 1


def test_an_element_of_an_array_is_quoted():
    assert sql._array(["", "NULL", 'a"b', "c\\d", "e,f", None, 5]) == r'{"","NULL","a\"b","c\\d","e,f",NULL,5}'
