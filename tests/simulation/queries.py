"""The queries of the ledger on the model: in the place of engine/claims/history.py and engine/drops/store.py.

Each has the name, the arguments and the answer of the real one.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from engine.claims.history import Group, RecordedClaim
from engine.drops.model import Control, Drop, Verb, after, to_ms
from engine.ids import ClaimId
from engine.ledger.actions import Action
from tests.simulation.ledger import Connection, Done, Ledger


class Claims:
    """engine/claims/history.py"""

    @staticmethod
    async def find(connection: Connection, claim_id: ClaimId) -> RecordedClaim | None:
        drop_id, partition, serial = claim_id
        row: RecordedClaim | None = await connection.query(lambda ledger: ledger.rows(drop_id, partition).get(serial))
        return row

    @staticmethod
    async def of_drop(connection: Connection, drop_id: str) -> AsyncIterator[list[RecordedClaim]]:
        def ask(ledger: Ledger) -> list[RecordedClaim]:
            places = sorted(place for place in ledger.claims if place[0] == drop_id)
            return [row for place in places for _, row in sorted(ledger.claims[place].items())]

        yield await connection.query(ask)

    @staticmethod
    async def window(
        connection: Connection, drop_id: str, partition: int, after_serial: int, limit: int
    ) -> list[RecordedClaim]:
        def ask(ledger: Ledger) -> list[RecordedClaim]:
            rows = sorted(ledger.rows(drop_id, partition).items())
            return [row for serial, row in rows if serial > after_serial][:limit]

        return list(await connection.query(ask))

    @staticmethod
    async def last_serial(connection: Connection, drop_id: str, partition: int) -> int:
        return int(await connection.query(lambda ledger: ledger.last_serial(drop_id, partition)))

    @staticmethod
    async def sums(
        connection: Connection, drop_id: str, partition: int, first: int, last: int
    ) -> dict[Group, tuple[int, int]]:
        def ask(ledger: Ledger) -> dict[Group, tuple[int, int]]:
            count, units = Counter[Group](), Counter[Group]()
            for serial, row in ledger.rows(drop_id, partition).items():
                if first <= serial <= last:
                    count[_group(row)] += 1
                    units[_group(row)] += row.quantity
            return {group: (count[group], units[group]) for group in sorted(count)}

        return dict(await connection.query(ask))

    @staticmethod
    async def returned(
        connection: Connection, drop_id: str, partition: int, last: int, until_ms: int
    ) -> dict[Group, tuple[int, int]]:
        def ask(ledger: Ledger) -> dict[Group, tuple[int, int]]:
            by_then, later = Counter[Group](), Counter[Group]()
            for serial, row in ledger.rows(drop_id, partition).items():
                if row.released_at is not None and serial <= last:
                    units = by_then if to_ms(row.released_at) <= until_ms else later
                    units[_group(row)] += row.quantity
            return {group: (by_then[group], later[group]) for group in sorted(by_then | later)}

        return dict(await connection.query(ask))

    @staticmethod
    async def skipped(connection: Connection, drop_id: str, partition: int) -> list[tuple[int, int]]:
        def ask(ledger: Ledger) -> list[tuple[int, int]]:
            return [(first, last) for of, first, last in skipped(ledger, drop_id) if of == partition]

        return list(await connection.query(ask))


def _group(row: RecordedClaim) -> Group:
    return Group(row.item, row.town, row.slogan)


def skipped(ledger: Ledger, drop_id: str) -> list[tuple[int, int, int]]:
    """Partition, first and last serial that the last rebuild left out."""
    rebuilds = [done for done in ledger.done.get(drop_id, ()) if done.control.verb is Verb.REBUILD]
    return [tuple(gap) for gap in rebuilds[-1].control.change.get("skipped", [])] if rebuilds else []


class Drops:
    """engine/drops/store.py"""

    @staticmethod
    async def read(connection: Connection, drop_id: str, *, for_update: bool = False) -> Drop | None:
        if for_update:
            await connection.lock_row(drop_id)
        drop: Drop | None = await connection.query(lambda ledger: ledger.drops.get(drop_id))
        return drop

    @staticmethod
    async def acted(connection: Connection, drop: Drop, act: str) -> tuple[Control, Drop] | None:
        done: list[Done] = await connection.query(lambda ledger: ledger.done.get(drop.id, []))
        return next(((known.control, known.drop) for known in done if known.control.act == act), None)

    @staticmethod
    async def last_act(connection: Connection, drop: Drop) -> Control | None:
        done: list[Done] = await connection.query(lambda ledger: ledger.done.get(drop.id, []))
        return next((known.control for known in done if known.control.revision == drop.revision), None)

    @staticmethod
    async def record(
        connection: Connection, drop_id: str, control: Control, applied_at: datetime
    ) -> tuple[Drop, Action | None]:
        del applied_at
        await connection.lock_row(drop_id)
        drop: Drop | None = await connection.query(lambda ledger: ledger.drops.get(drop_id))
        if drop is not None and drop.revision >= control.revision:
            return drop, None
        changed = after(drop, control)
        await connection.later(lambda: connection.ledger.record(drop_id, control))
        return changed, None


class Homes:
    """engine/ledger/homes.py"""

    @staticmethod
    async def read(connection: Connection) -> dict[int, str]:
        return dict(await connection.query(lambda ledger: ledger.homes))

    @staticmethod
    async def name(connection: Connection, partition: int, home: str) -> None:
        await connection.later(lambda: connection.ledger.homes.update({partition: home}))


class Migrations:
    """engine/ledger/migrations: the tables of the model are always those of this version."""

    @staticmethod
    async def hold(connection: Connection, lock_timeout: str) -> None:
        del connection, lock_timeout


class Vigil:
    """engine/ledger/vigil.py: it reads windows of what `checks.py` judges whole."""

    def __init__(self, stores: object, partitions: int) -> None:
        del stores, partitions

    async def look(self, drops: Sequence[Drop]) -> None:
        del drops


class Actions:
    """engine/ledger/actions.py: the chain is PostgreSQL's business, the record of acts is the ledger's (`done`)."""

    @staticmethod
    async def append(connection: Connection, actions: list[Action]) -> None:
        del connection
        assert not actions

    @staticmethod
    async def on_drop(connection: Connection, drop_id: str) -> list[Action]:
        del connection, drop_id
        return []  # a rebuild's report counts by the limit that holds; `checks.py` judges by those that held
