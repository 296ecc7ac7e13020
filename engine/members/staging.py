"""Brings a CSV of members, or of a list, into the ledger: read and judged as a whole first, then written in chunks.

The rows lie in a temporary table, so that a million of them take no memory here. One that was cut off in the middle is
brought in again: what is there already is not written a second time. One import at a time.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine.bounds import INTAKE_CHUNK_ROWS, INTAKE_COPY_ROWS, LEDGER_LOCK_TIMEOUT
from engine.errors import Unavailable
from engine.ledger import actions, migrations
from engine.ledger.locks import held
from engine.members.intake import COLUMNS, LIST_COLUMNS, Judge, MemberRow
from engine.members.sheet import Reject, Sheet, SheetInvalid

_LOCK = 0x696E74616B65  # "intake"
_MAKE_STAGED = """
    create temporary table staged (row bigint, id text, subject text, organisation text, attributes jsonb)
"""
# The second row of an id, and those behind it, are out.
_TWICE = """
    delete from staged s using (
        select row, first_value(row) over (partition by id order by row) as first from staged
    ) d where d.row = s.row and d.first < d.row returning s.row, d.first
"""
_IS_OTHER = """
    (m.subject, m.attributes, m.organisation) is distinct from (
        coalesce(s.subject, m.subject), m.attributes || s.attributes, coalesce(s.organisation, m.organisation)
    )
"""
_COMPARE = f"""
    select count(*) as rows, coalesce(max(row), 0) as last, count(*) filter (where m.id is null) as new,
        count(*) filter (where m.id is not null and {_IS_OTHER}) as changed,
        count(*) filter (where m.subject <> s.subject) as other_persons
    from staged s left join members m on m.id = s.id
"""
_UPDATE = f"""
    update members m set subject = coalesce(s.subject, m.subject), attributes = m.attributes || s.attributes,
        organisation = coalesce(s.organisation, m.organisation), updated_at = now()
    from staged s where s.row between :first and :last and m.id = s.id and {_IS_OTHER}
"""
_INSERT = """
    insert into members (id, subject, attributes, organisation)
    select id, coalesce(subject, id), attributes, organisation from staged
        where row between :first and :last order by id
    on conflict do nothing
"""
_MAKE_LISTED = "create temporary table listed (member text)"
_TAKE_OFF = """
    delete from list_members l where l.list = :list and not exists (select 1 from listed i where i.member = l.member)
"""
_PUT_ON = """
    insert into list_members (list, member) select distinct :list, member from listed order by member
    on conflict do nothing
"""
_NAME_LIST = "insert into lists (name) values (:list) on conflict (name) do update set updated_at = now()"


class IntakeBusy(Unavailable):
    code: ClassVar[str] = "intake-busy"


class Progress(NamedTuple):
    """How far an import is: `share` of the file, or of what is to be written, from 0 to 1."""

    step: str
    rows: int
    share: float


Tell = Callable[[Progress], None]
Refuse = Callable[[Reject], None]


@dataclass(slots=True)
class Report:
    """What an import brought, or would bring.

    `other_persons` are members of before who count as another person from now on: their limits begin anew.
    """

    rows: int = 0
    rejected: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    other_persons: int = 0


@dataclass(slots=True)
class ListReport:
    """What the import of a list brought, or would bring; `rows` of its file name `members`."""

    rows: int = 0
    rejected: int = 0
    members: int = 0
    put_on: int = 0
    taken_off: int = 0


class Source(NamedTuple):
    """Which file is brought in, by whom, as the record of acts has it."""

    path: Path
    sha256: str
    actor: str

    def told(self) -> dict[str, Any]:
        return {"file": self.path.name, "sha256": self.sha256}


async def bring_in_members(
    ledger: AsyncEngine, source: Source, judge: Judge, tell: Tell, refuse: Refuse, *, dry_run: bool = False
) -> Report:
    """Write the members of a file down, over what was known of them; `refuse` hears why a row is left out.

    Raises `SheetInvalid` where the file cannot be read to its end, and nothing was changed then; `IntakeBusy`.
    """
    report = Report()
    with closing(Sheet(source.path, COLUMNS, ("member_id",))) as sheet:
        async with _alone(ledger, "staged") as connection:
            await connection.execute(text(_MAKE_STAGED))
            rows = _judged(sheet, judge, judge.member, report, refuse)
            await _copy(connection, "staged", MemberRow._fields, rows, sheet, tell)
            await connection.execute(text("create index on staged (row)"))
            await connection.execute(text("analyze staged"))
            async for row, first in await connection.stream(text(_TWICE)):
                report.rejected += 1
                refuse(Reject(row, "member_id", f"stands in row {first} already", "take one of the two out"))
            found = (await connection.execute(text(_COMPARE))).one()
            await connection.commit()
            report.new, report.changed, report.other_persons = found.new, found.changed, found.other_persons
            report.unchanged = found.rows - found.new - found.changed
            if not dry_run and found.new + found.changed:
                await _record(connection, source, "members:import", "begin", {}, asdict(report))
                before = await _count_members(connection)
                await _write(connection, found.last, tell)
                after = {**asdict(report), "members": await _count_members(connection)}
                await _record(connection, source, "members:import", "import", {"members": before}, after)
    return report


async def bring_in_list(
    ledger: AsyncEngine, name: str, source: Source, judge: Judge, tell: Tell, refuse: Refuse, *, dry_run: bool = False
) -> ListReport:
    """Let a list be those whom a file names, no more and no less. Raises as `bring_in_members` does."""
    report = ListReport()
    with closing(Sheet(source.path, LIST_COLUMNS, LIST_COLUMNS)) as sheet:
        async with _alone(ledger, "listed") as connection:
            await connection.execute(text(_MAKE_LISTED))
            rows = ((member,) for member in _judged(sheet, judge, judge.listed, report, refuse))
            await _copy(connection, "listed", ("member",), rows, sheet, tell)
            await connection.execute(text("create index on listed (member)"))
            await connection.execute(text("analyze listed"))
            report.members = await connection.scalar(text("select count(distinct member) from listed")) or 0
            await connection.commit()
            if not report.members:
                raise SheetInvalid(f"{source.path}: no row of it names a member: the list stays as it is")
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            on_list = {"list": name}
            before = await connection.scalar(text("select count(*) from list_members where list = :list"), on_list)
            await connection.execute(text(_NAME_LIST), on_list)
            report.taken_off = (await connection.execute(text(_TAKE_OFF), on_list)).rowcount
            report.put_on = (await connection.execute(text(_PUT_ON), on_list)).rowcount
            if dry_run:
                await connection.rollback()
            else:
                await _record(connection, source, f"list:{name}", "import", {"members": before}, asdict(report))
    return report


def _judged(sheet: Sheet, judge: Judge, judged: Callable[..., Any], report: Any, refuse: Refuse) -> Iterator[Any]:
    """The rows of a sheet that hold; the report counts, and `refuse` hears of the others."""
    if "id_number" in sheet.columns and judge.person_key is None:
        raise SheetInvalid("the column id_number needs the key of persons: set person_key, or name the data directory")
    for number, cells in sheet:
        report.rows += 1
        found = judged(number, sheet.columns, cells)
        if isinstance(found, list):
            report.rejected += 1
            for reject in found:
                refuse(reject)
        else:
            yield found


async def _copy(
    connection: AsyncConnection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[tuple[Any, ...]],
    sheet: Sheet,
    tell: Tell,
) -> None:
    driver: Any = (await connection.get_raw_connection()).driver_connection
    source, count = iter(rows), 0
    while chunk := list(islice(source, INTAKE_COPY_ROWS)):
        await driver.copy_records_to_table(table, records=chunk, columns=columns)
        count += len(chunk)
        tell(Progress("read", count, sheet.share))


async def _write(connection: AsyncConnection, last: int, tell: Tell) -> None:
    """A transaction for each chunk, so that nobody waits long for a member's row."""
    for first in range(1, last + 1, INTAKE_CHUNK_ROWS):
        await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
        part = {"first": first, "last": first + INTAKE_CHUNK_ROWS - 1}
        await connection.execute(text(_UPDATE), part)
        await connection.execute(text(_INSERT), part)
        await connection.commit()
        tell(Progress("write", min(part["last"], last), min(1.0, part["last"] / last)))


async def _record(
    connection: AsyncConnection, source: Source, of: str, verb: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    if not connection.in_transaction():
        await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
    await actions.record(connection, of, verb, source.actor, change=source.told(), before=before, after=after)
    await connection.commit()


async def _count_members(connection: AsyncConnection) -> int:
    return await connection.scalar(text("select count(*) from members")) or 0


@asynccontextmanager
async def _alone(ledger: AsyncEngine, table: str) -> AsyncIterator[AsyncConnection]:
    """The connection of the one import that runs; the temporary table goes at its end, whatever that is."""
    async with held(ledger, _LOCK) as connection:
        if connection is None:
            raise IntakeBusy("another import is running: wait for its end", retry_after_s=30)
        try:
            yield connection
        finally:
            await connection.rollback()
            await connection.execute(text(f"drop table if exists {table}"))
            await connection.commit()
