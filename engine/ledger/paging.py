"""Pages of a table in the order of its ids: what lists for operators are made of."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Select, Table, Text, any_, literal, select


def page(table: Table, after_id: str | None, limit: int) -> Select[Any]:
    """Up to `limit` rows from the one after `after_id` on, by primary key."""
    query = select(table).order_by(table.c.id).limit(limit)
    return query if after_id is None else query.where(table.c.id > after_id)


def within(query: Select[Any], organisation: ColumnElement[str], among: Sequence[str] | None) -> Select[Any]:
    """Only what is of the organisations `among`; all of it where none are given."""
    return query if among is None else query.where(organisation == any_(literal(list(among), ARRAY(Text))))
