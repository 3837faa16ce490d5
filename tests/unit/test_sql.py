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
    bound = sql._bound("SELECT 1 WHERE id IN ({ids}) AND x = {x}", {"ids": [1, 2, 3], "x": "y"})
    assert (
        bound
        == {
            "postgresql": ("SELECT 1 WHERE id = ANY(%s) AND x = %s", [[1, 2, 3], "y"]),
            "sqlite": ("SELECT 1 WHERE id IN (%s, %s, %s) AND x = %s", [1, 2, 3, "y"]),
        }[vendor]
    )


def test_tuples_are_rows(vendor):
    bound = sql._bound("VALUES {rows}", {"rows": [(1, "a"), (2, "b")]})
    assert bound == ("VALUES (%s, %s), (%s, %s)", [1, "a", 2, "b"])
