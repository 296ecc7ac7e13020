"""The ledger of a run: rows that are there once a transaction is committed, and never half.

What a transaction has done is kept with its connection and applied in one step by `commit`: inserts as
`on conflict do nothing`, one claim for a ticket, a row that differs to the dead letters. The lock on a drop's row and
advisory locks are held by connections, and end with them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from engine.claims.history import RecordedClaim
from engine.claims.outbox import ClaimsEntry, ControlEntry, EntryUnreadable, ReleaseEntry, StreamEntry, decode
from engine.drops.model import Control, Drop, Status, after, from_ms, to_ms
from engine.errors import FlashclaimError
from engine.ids import ClaimId, DropId
from tests.simulation.network import Line, Network, Process, Server

LOCK_TIMEOUT_S = 10.0  # as engine.ledger.ingest.LOCK_TIMEOUT
_LOCK_LOOK_S = 0.02


class DropRow(NamedTuple):
    """A row of the homecoming's query."""

    id: str
    status: str
    revision: int
    epoch: int
    serial: int


class Done(NamedTuple):
    """An operator's act as it is recorded."""

    control: Control
    drop: Drop


class Ledger(Server):
    def __init__(self) -> None:
        super().__init__("ledger")
        self.drops: dict[str, Drop] = {}
        self.done: dict[str, list[Done]] = {}
        self.claims: dict[tuple[str, int], dict[int, RecordedClaim]] = {}
        self.tickets: dict[tuple[str, str, bytes], ClaimId] = {}
        self.homes: dict[int, str] = {}
        self.dead_letters: dict[tuple[int, bytes], str] = {}
        self.row_locks: dict[str, Connection] = {}
        self.advisory: dict[int, Connection] = {}
        self._entries: set[tuple[object, ...]] = set()
        self.commits = 0

    def rows(self, drop_id: str, partition: int) -> dict[int, RecordedClaim]:
        return self.claims.setdefault((drop_id, partition), {})

    def last_serial(self, drop_id: str, partition: int) -> int:
        return max(self.rows(drop_id, partition), default=0)

    def has_entry(self, partition: int, fields: Mapping[bytes, bytes]) -> bool:
        return (partition, *sorted(fields.items())) in self._entries

    def ingest(self, partition: int, entries: Sequence[StreamEntry]) -> None:
        """As engine/ledger/ingest.py: claims first, then the rest; what cannot be written goes to the dead letters."""
        others: list[tuple[bytes, ReleaseEntry | ControlEntry]] = []
        for entry_id, fields in entries:
            self._entries.add((partition, *sorted(fields.items())))
            try:
                entry = decode(fields)
                if not isinstance(entry, ClaimsEntry):
                    others.append((entry_id, entry))
                elif hit := self._insert_entry(partition, entry):
                    self._bury(partition, entry_id, f"other claims under these serials or tickets: {hit}")
            except EntryUnreadable as error:
                self._bury(partition, entry_id, str(error))
        for entry_id, other in others:
            fault = self._apply(partition, other)
            if fault is not None:
                self._bury(partition, entry_id, fault)

    def _insert_entry(self, partition: int, entry: ClaimsEntry) -> list[int]:
        hit = []
        for serial, request in enumerate(entry.claims(), start=entry.first_serial):
            claim_id = ClaimId(DropId(entry.drop_id), partition, serial)
            row = RecordedClaim(
                claim_id, *request[1:5], request.nonce, from_ms(entry.at_ms), None, request.town, request.slogan
            )
            if not self.insert(row) and self._is_other(row):
                hit.append(serial)
        return hit

    def insert(self, row: RecordedClaim) -> bool:
        """On conflict do nothing; whether the row is new."""
        drop_id, partition, serial = row.claim_id
        ticket = row.member_id, str(drop_id), row.nonce
        if serial in self.rows(drop_id, partition) or ticket in self.tickets:
            return False
        self.rows(drop_id, partition)[serial] = row
        self.tickets[ticket] = row.claim_id
        return True

    def _is_other(self, row: RecordedClaim) -> bool:
        known = self.rows(row.claim_id.drop_id, row.claim_id.partition).get(row.claim_id.serial)
        return known is None or known._replace(released_at=None) != row

    def _apply(self, partition: int, entry: ReleaseEntry | ControlEntry) -> str | None:
        if isinstance(entry, ControlEntry):
            try:
                self.record(entry.drop_id, entry.control)
            except FlashclaimError as error:
                return error.detail
            return None
        row = self.rows(entry.drop_id, partition).get(entry.serial)
        if row is None:
            return f"claim {entry.serial} was given back, but the ledger has no such claim"
        if row.released_at is None:
            self.rows(entry.drop_id, partition)[entry.serial] = row._replace(released_at=from_ms(entry.at_ms))
            return None
        return None if to_ms(row.released_at) == entry.at_ms else "given back twice"

    def record(self, drop_id: str, control: Control) -> Drop:
        """As `engine.drops.store.record`."""
        drop = self.drops.get(drop_id)
        if drop is not None and drop.revision >= control.revision:
            return drop
        changed = after(drop, control)
        self.drops[drop_id] = changed
        self.done.setdefault(drop_id, []).append(Done(control, changed))
        return changed

    def lose(self, claim_id: ClaimId) -> None:
        """By hand."""
        row = self.rows(claim_id.drop_id, claim_id.partition).pop(claim_id.serial)
        self.tickets.pop((row.member_id, str(claim_id.drop_id), row.nonce), None)

    def _bury(self, partition: int, entry_id: bytes, why: str) -> None:
        self.dead_letters.setdefault((partition, entry_id), why)

    def open_drops(self, now_ms: int) -> list[str]:
        last_ms = now_ms - 86_400_000
        return [drop.id for drop in self.drops.values() if drop.status is not Status.DRAFT and drop.closes_ms > last_ms]


class Connection:
    """A connection of a process to the ledger, with its transaction."""

    def __init__(self, ledger: Ledger, line: Line, now_ms: Callable[[], int]) -> None:
        self.ledger = ledger
        self._line = line
        self._now_ms = now_ms
        self._doing: list[Callable[[], object]] = []
        self._is_over = False  # its locks were given to somebody else

    async def query(self, ask: Callable[[Ledger], Any]) -> Any:
        return await self._line.call(lambda: ask(self.ledger))

    async def later(self, do: Callable[[], object]) -> None:
        """Done at the commit."""
        await self._line.call(lambda: self._doing.append(do))

    async def rollback(self) -> None:
        self._doing = []

    async def commit(self) -> None:
        doing, self._doing = self._doing, []

        def commit() -> None:
            if self._is_over:
                raise ConnectionError("the transaction was ended by the ledger")
            for do in doing:
                do()
            self.ledger.commits += bool(doing)
            self._unlock(self.ledger.row_locks)

        await self._line.call(commit)

    def end(self) -> None:
        """Roll back, and let go of everything."""
        self._doing = []
        self._unlock(self.ledger.row_locks)
        self._unlock(self.ledger.advisory)
        self._line.close()

    async def lock_row(self, drop_id: str, timeout_s: float = 60.0) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while not await self.query(lambda ledger: self._locked(ledger.row_locks, drop_id)):
            if loop.time() > until_s:
                raise OSError("lock timeout")
            await asyncio.sleep(_LOCK_LOOK_S)

    async def scalar(self, statement: Any, params: Mapping[str, int]) -> bool:
        assert "pg_try_advisory_lock" in statement.text
        (key,) = params.values()
        got: bool = await self.query(lambda ledger: self._locked(ledger.advisory, key))
        return got

    async def scalars(self, statement: Any) -> list[str]:
        assert "from drops where status <> 'draft'" in statement.text
        return list(await self.query(lambda ledger: ledger.open_drops(self._now_ms())))

    async def execute(self, statement: Any, params: Mapping[str, int] | None = None) -> Any:
        if isinstance(statement, Insertion):
            rows = statement.rows
            return await self.later(lambda: [self.ledger.insert(row) for row in rows])
        if "pg_advisory_unlock" in statement.text:
            assert params is not None
            (key,) = params.values()
            return await self.query(lambda ledger: ledger.advisory.pop(key, None))
        if statement.text == "select 1":
            return await self.query(lambda _: None)
        assert "order by id" in statement.text
        assert params is not None
        partition = params["partition"]
        return await self.query(
            lambda ledger: [
                DropRow(drop.id, str(drop.status), drop.revision, drop.epoch, ledger.last_serial(drop.id, partition))
                for drop in ledger.drops.values()
            ]
        )

    def _locked(self, locks: dict[Any, "Connection"], key: Any) -> bool:
        holder = locks.get(key)
        if holder is not None and holder is not self:
            if holder._line.is_open:
                return False
            holder._is_over = True
        locks[key] = self
        return True

    def _unlock(self, locks: dict[Any, "Connection"]) -> None:
        for key in [key for key, holder in locks.items() if holder is self]:
            del locks[key]


class Insertion:
    """`insert(claims).values(…).on_conflict_do_nothing()` of the rebuild."""

    def __init__(self, _table: object) -> None:
        self.rows: list[RecordedClaim] = []

    def values(self, rows: Sequence[Mapping[str, Any]]) -> "Insertion":
        for row in rows:
            rest = {name: value for name, value in row.items() if name in RecordedClaim._fields}
            self.rows.append(RecordedClaim(ClaimId(row["drop_id"], row["partition"], row["serial"]), **rest))
        return self

    def on_conflict_do_nothing(self) -> "Insertion":
        return self


class LedgerAccess:
    """In the place of SQLAlchemy's engine: connections of one process."""

    def __init__(self, network: Network, process: Process, ledger: Ledger, now_ms: Callable[[], int]) -> None:
        self._network = network
        self._process = process
        self.ledger = ledger
        self._now_ms = now_ms

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        connection = Connection(self.ledger, self._network.line(self._process, self.ledger), self._now_ms)
        try:
            yield connection
        finally:
            connection.end()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Connection]:
        async with self.connect() as connection:
            yield connection
            await connection.commit()


class Writer:
    """In the place of `engine.ledger.ingest.LedgerWriter`."""

    def __init__(self, connection: Connection, ledger: Ledger) -> None:
        self._connection = connection
        self._ledger = ledger

    async def write(self, partition: int, stream: str, entries: Sequence[StreamEntry]) -> int:
        del stream
        for drop_id in sorted({fields[b"drop"].decode() for _, fields in entries if fields.get(b"kind") == b"control"}):
            await self._connection.lock_row(drop_id, LOCK_TIMEOUT_S)
        await self._connection.later(lambda: self._ledger.ingest(partition, entries))
        return 0

    async def commit(self) -> None:
        await self._connection.commit()


def writer_of(access: LedgerAccess) -> Callable[[], Any]:
    """In the place of `engine.ledger.ingest.writer_of`."""

    @asynccontextmanager
    async def open_writer() -> AsyncIterator[Writer]:
        async with access.connect() as connection:
            yield Writer(connection, access.ledger)

    return open_writer
