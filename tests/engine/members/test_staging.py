"""The promise: a CSV of any length is brought in whole, or it is said row by row why not; twice is like once.

Malformed files and rows first.
"""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from engine import towns
from engine.ledger import actions
from engine.ledger.schema import list_members, members, metadata
from engine.members import staging
from engine.members.id_number import person
from engine.members.intake import COLUMNS, Judge
from engine.members.sheet import Reject, SheetInvalid
from engine.members.staging import IntakeBusy, ListReport, Progress, Report, Source, bring_in_list, bring_in_members
from tests.factories.members import id_number

KEY = b"k" * 32
TODAY = date(2025, 6, 14)
NUMBER = "11010519491231002X"
JUDGE = Judge(towns.load(), {"dongguan", "dalang"}, KEY, TODAY)


class Desk:
    """Brings files in, and keeps what was said."""

    def __init__(self, ledger: AsyncEngine, path: Path) -> None:
        self.ledger = ledger
        self.path = path / "members.csv"
        self.rejects: list[Reject] = []
        self.progress: list[Progress] = []

    async def bring(self, data: str | bytes, judge: Judge = JUDGE, **more: bool) -> Report:
        self._put(data)
        source = Source(self.path, "5ha", "boss")
        return await bring_in_members(self.ledger, source, judge, self.progress.append, self.rejects.append, **more)

    async def bring_list(self, name: str, data: str, **more: bool) -> ListReport:
        self._put(data)
        source = Source(self.path, "5ha", "boss")
        return await bring_in_list(self.ledger, name, source, JUDGE, self.progress.append, self.rejects.append, **more)

    def _put(self, data: str | bytes) -> None:
        self.rejects.clear()
        self.path.write_bytes(data if isinstance(data, bytes) else data.encode())

    async def rows(self) -> dict[str, tuple[str, str | None, dict[str, Any]]]:
        async with self.ledger.connect() as connection:
            found = await connection.execute(select(members))
            return {row.id: (row.subject, row.organisation, row.attributes) for row in found}

    async def on_list(self, name: str) -> set[str]:
        async with self.ledger.connect() as connection:
            query = select(list_members.c.member).where(list_members.c.list == name)
            return set(await connection.scalars(query))

    async def everything(self) -> str:
        """All that stands in the ledger."""
        async with self.ledger.connect() as connection:
            return "".join([str((await connection.execute(select(table))).all()) for table in metadata.sorted_tables])


@pytest.fixture
def desk(ledger: AsyncEngine, tmp_path: Path) -> Desk:
    return Desk(ledger, tmp_path)


class TestFiles:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "has no heading in row 1"),
            (b"\xef\xbb\xbf\n", "has no heading in row 1"),
            ("member_id,town\nm-1,大朗\n".encode("gbk"), "it looks like GBK, as Excel saves “CSV”"),
            ("member_id,town\nm-1,大朗\n".encode("utf-16"), "is UTF-16"),
            (b"PK\x03\x04rest", "is a workbook"),
            (b"member_id\nm-\xff\xfe\n", "is not UTF-8"),
            (b"member_id;town\n", "columns are separated by semicolons"),
            (b"member_id\ttown\n", "columns are separated by tabs"),
            (b"member_id,twon\n", "unknown column 'twon': did you mean 'town'"),
            (b"member_id,member_id\n", "the column 'member_id' stands twice"),
            (b"town\n", "there is no column member_id"),
            (b"m-1,11010519491231002X\n", "unknown column"),
            (b'member_id\n"m-1\n', "is no CSV"),
            (b'member_id\nm-1\n"m-2" x\n', "line 3: is no CSV"),
        ],
    )
    async def test_one_that_cannot_be_read_is_told_and_changes_nothing(
        self, desk: Desk, data: bytes, words: str
    ) -> None:
        before = await desk.everything()
        with pytest.raises(SheetInvalid) as refused:
            await desk.bring(data)
        assert words in refused.value.detail
        assert "1949" not in refused.value.detail
        assert await desk.everything() == before

    async def test_one_that_turns_bad_after_many_rows_changes_nothing(self, desk: Desk) -> None:
        rows = "".join(f"m-{number},大朗\n" for number in range(30_000))
        with pytest.raises(SheetInvalid, match="is not UTF-8"):
            await desk.bring(f"member_id,town\n{rows}".encode() + "m-x,东坑\n".encode("gbk"))
        assert await desk.rows() == {}

    async def test_a_missing_one_is_told(self, desk: Desk) -> None:
        with pytest.raises(SheetInvalid, match="No such file"):
            await bring_in_members(desk.ledger, Source(desk.path, "", "boss"), JUDGE, print, print)

    async def test_marks_line_ends_and_blank_rows_are_no_faults(self, desk: Desk) -> None:
        report = await desk.bring("\ufeffmember_id,town\r\n\r\n m-1 ,大朗镇\r\n,\r\nm-2,\r\n\r\n")
        assert (report.rows, report.rejected, report.new) == (2, 0, 2)
        assert await desk.rows() == {"m-1": ("m-1", None, {"town": "大朗"}), "m-2": ("m-2", None, {})}

    async def test_numbers_need_a_key(self, desk: Desk) -> None:
        with pytest.raises(SheetInvalid, match="person_key"):
            await desk.bring(f"member_id,id_number\nm-1,{NUMBER}\n", Judge(towns.load(), set(), None, TODAY))


class TestRows:
    @pytest.mark.parametrize(
        ("columns", "cells", "field", "words"),
        [
            ("member_id,town", "m-1,大郎", "town", "'大郎' is no town: write its name or code: did you mean '大朗'?"),
            ("member_id,town", ",大朗", "member_id", "is empty: give the id"),
            ("member_id,town", "m 1,大朗", "member_id", "'m 1' is no id: use letters"),
            ("member_id,town", "m-1,大朗,x", "", "has 3 cells, the heading has 2: look for a comma"),
            ("member_id,town", "m-1", "", "has 1 cells, the heading has 2"),
            ("member_id,town", f"{NUMBER},大朗", "member_id", "is an ID number, which is kept nowhere"),
            ("member_id,subject", f"m-1,{NUMBER}", "subject", "is an ID number"),
            ("member_id,id_number", "m-1,110105194912310020", "id_number", "its check character does not fit"),
            ("member_id,id_number", "m-1,1.10105E+17", "id_number", "not 18 characters"),
            ("member_id,id_number,subject", f"m-1,{NUMBER},m-2", "subject", "stands beside an ID number"),
            ("member_id,id_number,birthday", f"m-1,{NUMBER},01-01", "birthday", "does not fit the ID number"),
            ("member_id,birthday", "m-1,1990-06-14", "birthday", "is a whole birth date: write month and day"),
            ("member_id,birthday", "m-1,06-31", "birthday", "'06-31' cannot be a birthday: write month and day"),
            ("member_id,joined_at", "m-1,2025/2/30", "joined_at", "'2025/2/30' is no date: write it like 2025-06-14"),
            ("member_id,new_employment_form", "m-1,perhaps", "new_employment_form", "is neither yes nor no"),
            ("member_id,organisation", "m-1,dalan", "organisation", "is no organisation: write an organisation's id"),
            ("member_id,organisation", "m-1,大朗", "organisation", "is no organisation"),
            ("member_id,sector", f"m-1,{'x' * 201}", "sector", "cannot be a sector: write a printable text"),
            ("member_id,sector", "m-1,a\x07b", "sector", "cannot be a sector"),
            ("member_id,tags", "m-1," + ";".join(map(str, range(51))), "tags", "cannot be a tags: write a list"),
        ],
    )  # fmt: skip
    async def test_a_wrong_one_is_left_out_and_told_with_what_to_do(
        self, desk: Desk, columns: str, cells: str, field: str, words: str
    ) -> None:
        others = "good-{},"[: -1 if "," not in columns else None] + "," * (columns.count(",") - 1)
        report = await desk.bring(f"{columns}\n{others.format(1)}\n{cells}\n{others.format(2)}\n")
        (reject,) = desk.rejects
        assert (reject.row, reject.field) == (3, field)
        assert f"{reject.wrong}: {reject.advice}".startswith(words) or words in f"{reject.wrong}: {reject.advice}"
        assert (report.rows, report.rejected, report.new) == (3, 1, 2)
        assert set(await desk.rows()) == {"good-1", "good-2"}

    async def test_all_that_is_wrong_with_a_row_is_told(self, desk: Desk) -> None:
        report = await desk.bring("member_id,town,joined_at\nm 1,大郎,soon\n")
        assert [reject.field for reject in desk.rejects] == ["member_id", "town", "joined_at"]
        assert report.rejected == 1

    async def test_of_two_with_one_id_the_first_counts(self, desk: Desk) -> None:
        rows = "".join(f"m-{number % 25_000},{'大朗' if number < 25_000 else '东坑'}\n" for number in range(50_000))
        report = await desk.bring(f"member_id,town\n{rows}")
        assert (report.rows, report.new, report.rejected) == (50_000, 25_000, 25_000)
        assert {(reject.row, reject.wrong) for reject in desk.rejects} == {
            (number + 25_000, f"stands in row {number} already") for number in range(2, 25_002)
        }
        assert {town["town"] for _, _, town in (await desk.rows()).values()} == {"大朗"}

    async def test_each_column_is_read_as_sheets_write_it(self, desk: Desk) -> None:
        heading = ",".join(name for name in COLUMNS if name != "subject")
        await desk.bring(f"{heading}\nm-1,{NUMBER.lower()},441900113,制造业,2020/5/1,2021-6-7 0:00,,是,b；a;b,dalang\n")
        assert await desk.rows() == {
            "m-1": (
                person(NUMBER, KEY, TODAY).subject,
                "dalang",
                {
                    "town": "大朗", "sector": "制造业", "joined_at": "2020-05-01", "verified_at": "2021-06-07",
                    "birthday": "12-31", "new_employment_form": True, "tags": ["a", "b"],
                },
            )
        }  # fmt: skip

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.binary(max_size=400))
    async def test_no_bytes_break_it(self, desk: Desk, data: bytes) -> None:
        try:
            await desk.bring(b"member_id,town,tags\n" + data)
        except SheetInvalid:
            return


class TestTwice:
    HEADING = "member_id,id_number,town,tags,organisation\n"

    def sheet(self, count: int) -> str:
        rows = (
            f"m-{n},{id_number(441_900, date(1980, 1, 1), n % 1_000) if n % 3 else ''},大朗,a;b,dalang\n"
            for n in range(count)
        )
        return self.HEADING + "".join(rows)

    async def test_the_same_file_again_changes_nothing(self, desk: Desk) -> None:
        first = await desk.bring(self.sheet(2_000))
        assert (first.new, first.changed, first.unchanged) == (2_000, 0, 0)
        before = await desk.everything()
        again = await desk.bring(self.sheet(2_000))
        assert (again.new, again.changed, again.unchanged) == (0, 0, 2_000)
        assert await desk.everything() == before

    async def test_a_dry_run_says_what_would_come_and_changes_nothing(self, desk: Desk) -> None:
        await desk.bring(self.sheet(10))
        before = await desk.everything()
        sheet = self.sheet(15).replace("m-3,", "m-3x,").replace("m-4,", "m 4,")
        dry = await desk.bring(sheet, dry_run=True)
        assert await desk.everything() == before
        assert await desk.bring(sheet) == dry
        assert (dry.rows, dry.rejected, dry.new, dry.unchanged) == (15, 1, 6, 8)

    async def test_an_empty_cell_and_a_column_that_is_not_there_leave_what_is_known(self, desk: Desk) -> None:
        await desk.bring(f"{self.HEADING}m-1,{NUMBER},大朗,a,dalang\n")
        (known,) = (await desk.rows()).values()
        report = await desk.bring("member_id,town,sector\nm-1,,物流\n")
        assert (report.changed, report.other_persons) == (1, 0)
        assert await desk.rows() == {"m-1": (known[0], "dalang", {**known[2], "sector": "物流"})}

    async def test_a_member_who_becomes_another_person_is_counted(self, desk: Desk) -> None:
        await desk.bring("member_id\nm-1\nm-2\n")
        report = await desk.bring(f"member_id,id_number\nm-1,{NUMBER}\nm-2,\n")
        assert (report.changed, report.unchanged, report.other_persons) == (1, 1, 1)

    async def test_one_that_was_cut_off_is_brought_in_by_running_it_again(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(staging, "INTAKE_CHUNK_ROWS", 100)

        def cut(progress: Progress) -> None:
            if progress.step == "write" and progress.share > 0.4:
                raise KeyboardInterrupt

        desk._put(self.sheet(1_000))
        source = Source(desk.path, "5ha", "boss")
        with pytest.raises(KeyboardInterrupt):
            await bring_in_members(desk.ledger, source, JUDGE, cut, desk.rejects.append)
        there = len(await desk.rows())
        assert 400 <= there < 1_000
        report = await desk.bring(self.sheet(1_000))
        assert (report.new, report.unchanged) == (1_000 - there, there)
        assert len(await desk.rows()) == 1_000

    async def test_two_at_once_are_one(self, desk: Desk) -> None:
        async with staging._alone(desk.ledger, "other"):
            with pytest.raises(IntakeBusy):
                await desk.bring("member_id\nm-1\n")
        assert (await desk.bring("member_id\nm-1\n")).new == 1

    async def test_progress_rises_to_the_end(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(staging, "INTAKE_COPY_ROWS", 1_000)
        monkeypatch.setattr(staging, "INTAKE_CHUNK_ROWS", 1_000)
        await desk.bring(self.sheet(5_500))
        for step, count in (("read", 6), ("write", 6)):
            told = [progress for progress in desk.progress if progress.step == step]
            assert len(told) == count
            assert [progress.share for progress in told] == sorted(progress.share for progress in told)
            assert told[-1].share == 1.0


class TestNumbers:
    async def test_no_number_is_anywhere_afterwards(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        """Whichever cell it was put in by mistake: not in the ledger, not in what is told, not on a terminal."""
        number = id_number(441_900, date(1987, 3, 21), 123)
        names = [name for name in COLUMNS if name not in ("member_id", "id_number", "subject")]
        rows = "".join(
            f"m-{place},{number}{',' * place}{number}{',' * (len(names) - place)}\n" for place in range(len(names))
        )
        sheet = f"member_id,id_number,{','.join(names)},subject\n{rows}m-x,{number}{',' * 9}\n{number},{',' * 9}\n"
        report = await desk.bring(sheet)
        assert report.rejected
        await desk.bring_list("couriers", f"member_id,id_number\n,{number}\n{number},\nm 1{number},\n")
        everywhere = await desk.everything() + str(desk.rejects) + str(desk.progress) + "".join(capsys.readouterr())
        assert "19870321" not in everywhere
        assert number[:17] not in everywhere
        assert person(number, KEY, TODAY).subject in everywhere


class TestLists:
    async def test_a_list_is_those_of_its_file_no_more_and_no_less(self, desk: Desk) -> None:
        someone = person(NUMBER, KEY, TODAY).subject
        report = await desk.bring_list("couriers", f"member_id,id_number\nm-1,\nm-2,\nm-2,\n,{NUMBER}\n")
        assert (report.rows, report.members, report.put_on, report.taken_off) == (4, 3, 3, 0)
        assert await desk.on_list("couriers") == {"m-1", "m-2", someone}
        before = await desk.everything()
        dry = await desk.bring_list("couriers", "member_id\nm-2\nm-3\n", dry_run=True)
        assert (dry.put_on, dry.taken_off) == (1, 2)
        assert await desk.everything() == before
        assert await desk.bring_list("couriers", "member_id\nm-2\nm-3\n") == dry
        assert await desk.on_list("couriers") == {"m-2", "m-3"}
        await desk.bring_list("others", "member_id\nm-9\n")
        assert await desk.on_list("couriers") == {"m-2", "m-3"}

    @pytest.mark.parametrize(
        ("data", "words"),
        [("member_id\n", "no row of it names a member"), ("member_id\nm 1\n", "no row"), ("town\n", "unknown column")],
    )
    async def test_a_file_without_anybody_leaves_it_as_it_is(self, desk: Desk, data: str, words: str) -> None:
        await desk.bring_list("couriers", "member_id\nm-1\n")
        with pytest.raises(SheetInvalid, match=words):
            await desk.bring_list("couriers", data)
        assert await desk.on_list("couriers") == {"m-1"}

    @pytest.mark.parametrize("row", [f"m-1,{NUMBER}", ",", "m 1,", ",123"])
    async def test_a_row_names_one(self, desk: Desk, row: str) -> None:
        report = await desk.bring_list("couriers", f"member_id,id_number\nm-1,\n{row}\n")
        assert report.members == 1
        assert report.rejected == (0 if row == "," else 1)


async def test_what_was_brought_in_stands_in_the_record_of_acts(desk: Desk) -> None:
    await desk.bring("member_id,town\nm-1,大朗\nm 2,大朗\n")
    await desk.bring("member_id,town\nm-1,大朗\n")
    await desk.bring_list("couriers", "member_id\nm-1\n")
    async with desk.ledger.connect() as connection:
        links = await actions.chain(connection)
        assert await connection.scalar(text("select mark from members")) is not None
    assert actions.broken_links(links) == []
    told = [(link.action.object, link.action.verb, link.action.after.get("members")) for link in links]
    assert told == [("members:import", "begin", None), ("members:import", "import", 1), ("list:couriers", "import", 1)]
    assert links[1].action.change == {"file": "members.csv", "sha256": "5ha"}
    assert "m-1" not in str(links)
