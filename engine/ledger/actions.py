"""The record of what operators did: who, what, before, after; each row carries a hash of itself and of the row before.

Whoever changes or takes out a row after the fact breaks the hashes behind it, and `flashclaim audit` says where. The
last hash, kept elsewhere, also shows a chain that was cut short or written anew as a whole. Source of the construction:
S. Haber and W. S. Stornetta, "How to time-stamp a digital document", Journal of Cryptology 3 (1991), 5.1 (linking).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Row, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.ledger.schema import operator_actions

FORGET_ACTS = "forget-acts"  # acts on a drop that the store had and the ledger had not were given up
_ADVISORY_LOCK = 0x636861696E  # "chain": one row is linked at a time
_COLUMNS = operator_actions.c


@dataclass(frozen=True, slots=True)
class Action:
    """One act: `object` is what it was done to: `drop:…`, `claim:…`, `member:…`, `ledger:…`, `key:…`, `job:…`."""

    object: str
    verb: str
    actor: str
    at: datetime
    applied_at: datetime
    change: Mapping[str, Any]
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]
    drop_id: str | None = None
    revision: int | None = None
    act: str | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError` for what PostgreSQL takes in no text, before anything is written on its behalf."""
        if _spelled(self) and any("\0" in text for text in _texts(_content(self))):
            raise ValueError("a text with a zero byte")


class Link(NamedTuple):
    """A row of the chain as it lies in the ledger."""

    id: int
    action: Action
    hash: bytes


async def append(connection: AsyncConnection, actions: Sequence[Action]) -> None:
    """Link actions to the chain. Everybody who acts waits until the transaction ends: do it last."""
    if not actions:
        return
    await connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    found = await last(connection)
    before = found[1] if found else b""
    for action in actions:
        link = link_hash(before, action)
        row = {name: getattr(action, name) for name in Action.__slots__} | {"hash": link}
        # A drop's first act may be written down by its service and by a worker at the same moment: once is enough.
        done = await connection.execute(insert(operator_actions).values(row).on_conflict_do_nothing())
        before = link if done.rowcount == 1 else before


async def record(
    connection: AsyncConnection,
    of: str,
    verb: str,
    actor: str,
    *,
    change: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
) -> None:
    """Link an act on the machine itself (`of` is its object) to the chain, at the ledger's time."""
    now: datetime = (await connection.execute(select(func.now()))).scalar_one()
    await append(
        connection, [Action(of, verb, actor, at=now, applied_at=now, change=change, before=before, after=after)]
    )


async def last(connection: AsyncConnection) -> tuple[int, bytes] | None:
    """The id and the hash of the chain's last row (primary key, backwards)."""
    query = select(_COLUMNS.id, _COLUMNS.hash).where(_COLUMNS.hash.is_not(None)).order_by(_COLUMNS.id.desc()).limit(1)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (row.id, row.hash)


async def chain(connection: AsyncConnection, after: Link | None = None, limit: int | None = None) -> list[Link]:
    """The rows that are chained, in order; those behind `after` alone, and so many (primary key)."""
    query = select(operator_actions).where(_COLUMNS.hash.is_not(None)).order_by(_COLUMNS.id).limit(limit)
    rows = await connection.execute(query if after is None else query.where(_COLUMNS.id > after.id))
    return [Link(row.id, _action(row), row.hash) for row in rows]


async def on_drop(connection: AsyncConnection, drop_id: str) -> list[Action]:
    """The acts on a drop that are chained, in order (index on drop and revision)."""
    chained = (_COLUMNS.drop_id == drop_id, _COLUMNS.hash.is_not(None))
    rows = await connection.execute(select(operator_actions).where(*chained).order_by(_COLUMNS.id))
    return [_action(row) for row in rows]


def _action(row: Row[Any]) -> Action:
    return Action(**{name: getattr(row, name) for name in Action.__slots__})


def broken_links(links: Iterable[Link], after: Link | None = None) -> list[str]:
    """Each row whose hash does not follow from its content and the row before, which is `after` for the first. Pure."""
    found = []
    before = b"" if after is None else after.hash
    for link in links:
        if link_hash(before, link.action) != link.hash:
            found.append(
                f"operator action {link.id} ({link.action.verb} {link.action.object}) was altered, or one before it"
            )
        before = link.hash
    return found


def link_hash(before: bytes, action: Action) -> bytes:
    """SHA-256 over the hash before and the action's content, in one spelling."""
    return sha256(before + _spelled(action)).digest()


def _spelled(action: Action) -> bytes:
    return json.dumps(_content(action), sort_keys=True, ensure_ascii=False).encode()


def _content(action: Action) -> dict[str, Any]:
    return {name: _plain(getattr(action, name)) for name in Action.__slots__}


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, names too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from _texts(pair)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
