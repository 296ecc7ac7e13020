"""The promise: a deny list is used whole or not at all, and a change of its file is there within a second."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from engine.bounds import DENY_ENTRIES_MAX
from engine.errors import Misconfigured
from engine.rates.address import address
from engine.rates.denied import Denied, DenyList, parse, read, watch


def is_denied(found: DenyList, text: str) -> bool:
    try:
        found.check_address(address(text))
    except Denied:
        return True
    return False


class TestMalformed:
    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("203.0.113.9", "neither `address NETWORK` nor `member ID`"),
            ("address", "neither"),
            ("address 203.0.113.9 m-1", "neither"),
            ("address 203.0.113.300", "203.0.113.300"),
            ("address 203.0.113.9/24", "host bits"),
            ("address 203.0.113.0/33", "203.0.113.0/33"),
            ("member m 1", "neither"),
            ("member *", "not a member id"),
            ("Member m-1", "neither"),
        ],
    )
    def test_a_line_that_is_no_entry_is_named(self, line: str, words: str) -> None:
        with pytest.raises(Misconfigured) as refused:
            parse(f"# shut out\n\n{line}\n", "list")
        assert "list: line 3: " in refused.value.detail
        assert words in refused.value.detail

    def test_many_faults_are_told_in_part(self) -> None:
        with pytest.raises(Misconfigured, match=r"line 5: .*; and 45 more$"):
            parse("nonsense\n" * 50, "list")

    def test_a_list_past_its_bound_is_refused(self) -> None:
        with pytest.raises(Misconfigured, match="more than"):
            parse("\n" * (DENY_ENTRIES_MAX + 1), "list")

    def test_a_file_that_is_not_there_or_not_text_stops_the_start(self, tmp_path: Path) -> None:
        (tmp_path / "bytes").write_bytes(b"\xff\xfe")
        for name in ("none", "bytes"):
            with pytest.raises(Misconfigured, match=f"deny_file .*{name}"):
                read(tmp_path / name)


class TestEntries:
    FOUND = parse(
        """
        # a farm
        address 203.0.113.0/24   # all of it
        address 198.51.100.7
        address 2001:db8:5::/48
        member m-4711            # sells claims
        """,
        "list",
    )

    @pytest.mark.parametrize(
        ("text", "denied"),
        [
            ("203.0.113.0", True),
            ("203.0.113.255", True),
            ("203.0.114.0", False),
            ("198.51.100.7", True),
            ("198.51.100.8", False),
            ("::ffff:198.51.100.7", True),
            ("2001:db8:5:ffff::1", True),
            ("2001:db8:6::1", False),
            ("nonsense", False),
            ("", False),
        ],
    )
    def test_addresses_are_found_by_network(self, text: str, denied: bool) -> None:
        assert is_denied(self.FOUND, text) is denied

    def test_members_are_found_by_their_whole_id(self) -> None:
        with pytest.raises(Denied) as refused:
            self.FOUND.check_member(b"m-4711")
        assert refused.value.facts == {"whose": "member"}
        self.FOUND.check_member(b"m-471")

    def test_a_network_of_everything_is_one_too(self) -> None:
        assert is_denied(parse("address 0.0.0.0/0", "list"), "8.8.8.8")


class Watched:
    """A deny file that is watched, and the lists that were handed over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lists: asyncio.Queue[DenyList] = asyncio.Queue()

    async def next(self) -> DenyList:
        return await asyncio.wait_for(self.lists.get(), 1.0)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    found = Watched(tmp_path / "deny")
    found.path.write_text("member m-1\n")
    stop = asyncio.Event()
    watching = asyncio.create_task(watch(found.path, found.lists.put_nowait, stop))
    await asyncio.sleep(0)  # it has seen the file as it is
    yield found
    stop.set()
    await watching


class TestReload:
    async def test_a_change_is_there_within_a_second(self, watched: Watched) -> None:
        watched.path.write_text("member m-2\n")
        assert (await watched.next()).members == {b"m-2"}
        other = watched.path.with_name("other")
        other.write_text("member m-3\n")
        other.replace(watched.path)
        assert (await watched.next()).members == {b"m-3"}

    async def test_a_faulty_list_is_logged_and_the_next_good_one_is_taken(self, watched: Watched) -> None:
        with capture_logs() as logs:
            watched.path.write_text("member m-2\nnonsense\n")
            await asyncio.sleep(0.9)
            watched.path.unlink()
            await asyncio.sleep(0.9)
            assert watched.lists.empty()
            watched.path.write_text("member m-4\n")
            assert (await watched.next()).members == {b"m-4"}
        errors = [entry["error"] for entry in logs if entry["log_level"] == "error"]
        assert "line 2" in errors[0]
        assert "No such file" in errors[1]
        assert len(errors) == 2
