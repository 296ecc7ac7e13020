"""The promise: the one file runs alone; a published draw that was changed anywhere is refused, and what differs is
named; and no file, whatever is in it, ends in anything but one of the three exit codes.
"""

import json
import subprocess
import sys
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.draws import verify
from engine.draws.publication import BeaconValue, Entrant, proof, reveal
from engine.draws.verify import Json, Unreadable, canonical, check, hex_hash
from tests.factories.draws import SECRET, closed_draw, draw_terms, revealed_draw, revealed_instant

DRAW, INSTANT = revealed_draw(), revealed_instant()
ENTRIES = len(DRAW["closed"]["entries"])
DIGITS = st.sampled_from("0123456789abcdef")


def stages(document: Json) -> list[Json]:
    names = [name for name in ("terms", "commitment", "closed", "revealed") if name in document]
    return [{name: document[name] for name in names[:count]} for count in range(2, len(names) + 1)]


def wheres(document: Json) -> list[str]:
    return [difference.where for difference in check(document).differences]


def verdict(document: Json) -> str:
    try:
        lines = list(check(document).lines())
    except Unreadable as error:
        lines = [str(error), "NOT READABLE"]
    assert all(line.isascii() and line.isprintable() for line in lines)
    return lines[-1]


def run(*arguments: Path | str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", "verify.py", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def main(path: Path, raw: bytes, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    path.write_bytes(raw)
    code = verify.main([str(path)])
    return code, "".join(capsys.readouterr())


class TestUnreadable:
    @pytest.mark.parametrize(
        ("raw", "says"),
        [
            (b"", "Expecting value"),
            (b"\xff\xfe", "utf-8"),
            (b"\xef\xbb\xbf{}", "BOM"),
            ("{}".encode("utf-16"), "utf-8"),
            (b"null", "null is not an object"),
            (b"[]", "a list is not an object"),
            (b'"text"', '"text" is not an object'),
            (b"{}", "terms.format: null is neither"),
            (b"{} {}", "Extra data"),
            (b'{"a": 1, "b": {"c": 1, "c": 1}}', 'the name "c" stands twice'),
            (b'{"a": NaN}', "NaN: only whole numbers"),
            (b'{"a": -Infinity}', "-Infinity: only whole numbers"),
            (b'{"a": 1.0}', "1.0: only whole numbers"),
            (b'{"a": 1e400}', "1e400: only whole numbers"),
            (b'{"a": ' + b"9" * 5_000 + b"}", "limit"),
            (b'{"a": ' * 100_000, "nested too deeply"),
            (b"[" * 1_000_000, "nested too deeply"),
            (b'{"terms": [1]}', "terms.format: null"),
            (b'{"terms": {"format": {"a": []}}}', "terms.format: a dict"),
            (b'{"terms": {"format": "flashclaim-draw-1"}}', '"commitment" is missing'),
            (b'{"terms": {"format": "flashclaim-draw-1"}, "revealed": {}}', "never closed"),
            (b'{"terms": {"format": "flashclaim-draw-2"}}', '"flashclaim-draw-2" is neither'),
        ],
    )
    def test_it_says_what_is_wrong_and_ends_with_2(
        self, raw: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, output = main(tmp_path / "file.json", raw, capsys)
        assert (code, says in output) == (2, True), output
        assert output.startswith("NOT READABLE  ")

    def test_no_file_a_folder_and_a_huge_one(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert verify.main([str(tmp_path / "none.json")]) == 2
        assert verify.main([str(tmp_path)]) == 2
        monkeypatch.setattr(verify, "FILE_BYTES_MAX", 100)
        code, output = main(tmp_path / "file.json", canonical(DRAW), capsys)
        assert (code, "more than 100 bytes" in output) == (2, True)

    @pytest.mark.parametrize(
        ("path", "value", "says"),
        [
            ("terms.draw", "Goose", "terms.draw: "),
            ("terms.draw", "", "terms.draw: "),
            ("terms.rules", {}, "terms.rules: "),
            ("terms.rules", {"en": 1}, "terms.rules: "),
            ("terms.closes_at", "2025-02-30T12:00:00Z", "terms.closes_at: "),
            ("terms.closes_at", "2025-09-20 12:00:00Z", "terms.closes_at: "),
            ("terms.closes_at", "٢025-09-20T12:00:00Z", "terms.closes_at: "),
            ("terms.closes_at", 1, "terms.closes_at: "),
            ("terms.prizes", [], "terms.prizes: "),
            ("terms.prizes.0.stock", 0, "terms.prizes[0].stock: 0 is not a whole number from 1"),
            ("terms.prizes.0.stock", True, "terms.prizes[0].stock: true"),
            ("terms.prizes.0.stock", 10**9, "terms.prizes[0].stock: 1000000000"),
            ("terms.weights.points_each", 0, "terms.weights.points_each: "),
            ("terms.weights.weight_max", 33, "terms.weights.weight_max: "),
            ("terms.beacon.rounds", [{"round": 1}], "terms.beacon.rounds: a list is not a list of 2 to 16"),
            ("terms.beacon.source", "\x1b[2J", "terms.beacon.source: "),
            ("commitment", "AB" * 32, "commitment: "),
            ("commitment", "ab" * 31, "commitment: "),
            ("closed.columns", ["entrant"], "closed.columns: "),
            ("closed.entries.3", ["a", 1, 0, 0], "closed.entries[3]: "),
            ("closed.entries.3.0", "\x1b[31m", r'closed.entries[3].entrant: "\u001b[31m" is not'),
            ("closed.entries.3.0", "\ud800", r'closed.entries[3].entrant: "\ud800" is not'),
            ("closed.entries.3.0", "x" * 129, "closed.entries[3].entrant: "),
            ("closed.entries.3.2", -1, "closed.entries[3].misses: -1 is not"),
            ("closed.entries.3.4", True, "closed.entries[3].weight: true is not"),
            ("closed.entries.3.4", 2**53, "closed.entries[3].weight: 9007199254740992 is not"),
            ("revealed.beacon.value", "5A" * 32, "revealed.beacon.value: "),
            ("revealed.beacon.value", "5a5", "revealed.beacon.value: "),
            ("revealed.winners.0", ["a"], "revealed.winners[0]: "),
            ("revealed.winners.0.1", None, "revealed.winners[0].prize: null is not"),
            ("revealed.waiting", {}, "revealed.waiting: a dict is not a list"),
        ],
    )
    def test_a_field_of_the_wrong_shape_is_named(self, path: str, value: Any, says: str) -> None:
        with pytest.raises(Unreadable) as refused:
            check(put(DRAW, path, value))
        assert str(refused.value).startswith(says)

    @pytest.mark.parametrize("document", [DRAW, INSTANT], ids=["draw", "instant"])
    def test_no_member_may_be_missing_or_unknown(self, document: Json) -> None:
        objects = [path for path in every_path(document) if isinstance(get(document, path), dict)]
        for path in (path for path in objects if path[-1:] != ["rules"]):
            for name in get(document, path):
                changed = deepcopy(document)
                del get(changed, path)[name]
                if path or name in {"terms", "commitment", "closed"}:
                    with pytest.raises(Unreadable):
                        check(changed)
            changed = deepcopy(document)
            get(changed, path)["unknown"] = 1
            with pytest.raises(Unreadable, match="does not belong there"):
                check(changed)

    @given(
        value=st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        ),
        data=st.data(),
    )
    def test_anything_anywhere_is_checked_or_refused(self, value: Any, data: st.DataObject) -> None:
        document = data.draw(st.sampled_from([DRAW, INSTANT]))
        path = data.draw(st.sampled_from(every_path(document)[1:]))
        changed = put(document, path, value)
        assert verdict(changed) in {"VALID", "DIFFERS", "NOT READABLE"}

    @given(raw=st.binary(max_size=60) | st.text('{}[]":,0123456789ea.-+ \\u\n', max_size=60).map(str.encode))
    def test_no_bytes_end_in_a_traceback(self, raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
        path = tmp_path_factory.getbasetemp() / "any.json"
        path.write_bytes(raw)
        assert verify.main([str(path)]) == 2


class TestAlone:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        copyfile(verify.__file__, tmp_path / "verify.py")
        (tmp_path / "draw.json").write_bytes(canonical(DRAW))
        (tmp_path / "instant.json").write_bytes(canonical(INSTANT))
        (tmp_path / "proof.json").write_bytes(canonical(proof(DRAW, "goose.0.7")))
        return tmp_path

    def test_a_good_file_is_valid_with_exit_code_0(self, folder: Path) -> None:
        for name in ("draw.json", "instant.json"):
            done = run(name, folder=folder)
            assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, "VALID", "")

    def test_a_changed_file_is_named_with_exit_code_1(self, folder: Path) -> None:
        (folder / "draw.json").write_bytes(canonical(put(DRAW, "closed.entries.3.4", 5)))
        done = run("draw.json", folder=folder)
        assert (done.returncode, done.stderr) == (1, "")
        assert "DIFFERS  closed.entries[3].weight: published 5, found " in done.stdout

    def test_no_file_is_exit_code_2(self, folder: Path) -> None:
        for arguments in (["none.json"], ["verify.py"], [], ["draw.json", "--proof", "draw.json"], ["a", "b"]):
            done = run(*arguments, folder=folder)
            assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False)

    def test_a_proof_is_checked_with_its_file(self, folder: Path) -> None:
        done = run("draw.json", "--proof", "proof.json", folder=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert "the path leads from entry" in done.stdout

    def test_a_terminal_that_knows_ascii_alone_is_enough(self, folder: Path) -> None:
        (folder / "draw.json").write_bytes(canonical(put(DRAW, "closed.entries.3.0", "鹅\u202e")))
        command = [sys.executable, "-X", "utf8=0", "-I", "verify.py", "draw.json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False, env={"LC_ALL": "C"})
        assert (done.returncode, done.stdout.isascii(), done.stderr) == (1, True, b"")


class TestStages:
    def test_it_checks_what_is_there_and_says_what_comes_later(self) -> None:
        committed, closed, revealed = (check(document) for document in stages(DRAW))
        assert [found.differences for found in (committed, closed, revealed)] == [[], [], []]
        assert [len(found.holds) for found in (committed, closed, revealed)] == [1, 4, 7]
        assert "entrants and root" in committed.later[0]
        assert "secret, beacon value and result" in closed.later[0]
        assert revealed.later == []
        assert f"  later    {closed.later[0]}" in list(closed.lines())

    def test_it_says_what_to_look_up_by_hand(self) -> None:
        told = "\n".join(check(DRAW).by_hand)
        for text in (DRAW["commitment"], DRAW["closed"]["root"], "round 7", DRAW["revealed"]["beacon"]["value"]):
            assert text in told
        assert "without a value" not in told

    def test_a_later_round_asks_whether_the_earlier_one_was_missing(self) -> None:
        late = reveal(closed_draw(), SECRET, BeaconValue(9, "ab" * 32, datetime(2025, 9, 20, 21, tzinfo=UTC)))
        assert "was round 7 without a value until 2025-09-20T19:00:00Z?" in check(late).by_hand

    def test_no_entrants_at_all(self) -> None:
        document = revealed_draw([])
        assert wheres(document) == []
        assert document["closed"]["root"] == hex_hash(b"")


class TestTerms:
    """Terms that do not hold together are named though their commitment is right."""

    @pytest.mark.parametrize(
        ("path", "value", "where"),
        [
            ("prizes.1.id", "goose", "terms.prizes[1].id"),
            ("prizes.0.stock", 10_000_000, "terms.prizes"),
            ("weights.base", 6, "terms.weights.base"),
            ("beacon.rounds.0.due_at", "2025-09-20T12:00:00Z", "terms.beacon.rounds[0].due_at"),
            ("beacon.rounds.0.wait_until", "2025-09-20T12:30:00Z", "terms.beacon.rounds[0].wait_until"),
            ("beacon.rounds.1.due_at", "2025-09-20T18:59:59Z", "terms.beacon.rounds[1].due_at"),
            ("beacon.rounds.1.round", 7, "terms.beacon.rounds[1].round"),
        ],
    )
    def test_a_contradiction_is_named(self, path: str, value: Any, where: str) -> None:
        terms = put(stages(DRAW)[0]["terms"], path, value)
        assert wheres({"terms": terms, "commitment": hex_hash(canonical(terms))}) == [where]

    def test_a_round_may_be_over_in_the_second_it_is_due(self) -> None:
        terms = put(stages(DRAW)[0]["terms"], "beacon.rounds.0.wait_until", "2025-09-20T13:00:00Z")
        assert wheres({"terms": terms, "commitment": hex_hash(canonical(terms))}) == []


class TestTampered:
    """One thing is changed; the first thing named is that one, or what binds it."""

    @given(index=st.integers(0, ENTRIES - 1), name=st.text("abc", min_size=1, max_size=4))
    def test_an_entrant(self, index: int, name: str) -> None:
        found = wheres(put(DRAW, f"closed.entries.{index}.0", name))
        assert set(found) & {f"closed.entries[{index}].entrant", f"closed.entries[{index + 1}].entrant", "closed.root"}
        assert "closed.root" in found

    @given(index=st.integers(0, ENTRIES - 1), weight=st.integers(0, 60))
    def test_a_weight(self, index: int, weight: int) -> None:
        if weight != DRAW["closed"]["entries"][index][4]:
            found = wheres(put(DRAW, f"closed.entries.{index}.4", weight))
            assert found == [f"closed.entries[{index}].weight", "closed.root"]

    @given(
        index=st.integers(0, ENTRIES - 1), column=st.sampled_from(["base", "misses", "points"]), by=st.integers(1, 9)
    )
    def test_what_a_weight_is_made_of(self, index: int, column: str, by: int) -> None:
        path = f"closed.entries.{index}.{verify.COLUMNS.index(column)}"
        found = wheres(put(DRAW, path, get(DRAW, path) + by * 100))
        assert "closed.root" in found
        if column == "base":
            assert f"closed.entries[{index}].base" in found

    @given(index=st.integers(0, ENTRIES - 2))
    def test_the_order_of_the_entrants(self, index: int) -> None:
        changed = deepcopy(DRAW)
        entries = changed["closed"]["entries"]
        entries[index], entries[index + 1] = entries[index + 1], entries[index]
        assert wheres(changed) == [f"closed.entries[{index + 1}].entrant", "closed.root"]

    @given(index=st.integers(0, ENTRIES - 1))
    def test_an_entrant_who_stands_there_twice_or_no_more(self, index: int) -> None:
        twice, gone = deepcopy(DRAW), deepcopy(DRAW)
        twice["closed"]["entries"].insert(index, DRAW["closed"]["entries"][index])
        del gone["closed"]["entries"][index]
        assert wheres(twice)[:3] == [f"closed.entries[{index + 1}].entrant", "closed.count", "closed.root"]
        assert wheres(gone)[:2] == ["closed.count", "closed.root"]

    @given(stock=st.integers(1, 9), prize=st.integers(0, 1))
    def test_a_prize_of_the_terms(self, stock: int, prize: int) -> None:
        if stock != DRAW["terms"]["prizes"][prize]["stock"]:
            assert wheres(put(DRAW, f"terms.prizes.{prize}.stock", stock))[0] == "commitment"
        assert wheres(put(DRAW, f"terms.prizes.{prize}.id", f"other-{stock}"))[0] == "commitment"

    @given(place=st.integers(0, 4))
    def test_the_prize_of_a_winner(self, place: int) -> None:
        prize = DRAW["revealed"]["winners"][place][1]
        other = "mooncake" if prize == "goose" else "goose"
        assert wheres(put(DRAW, f"revealed.winners.{place}.1", other)) == [f"revealed.winners[{place}].prize"]

    @given(place=st.integers(0, 4), name=st.sampled_from([entry[0] for entry in DRAW["closed"]["entries"]]))
    def test_a_winner(self, place: int, name: str) -> None:
        won = [winner[0] for winner in DRAW["revealed"]["winners"]]
        if name != won[place]:
            what = "order" if name in won else "entrant"
            assert wheres(put(DRAW, f"revealed.winners.{place}.0", name)) == [f"revealed.winners[{place}].{what}"]

    @given(place=st.integers(0, 3), part=st.sampled_from(["winners", "waiting"]))
    def test_the_order_of_winners_and_of_the_waiting(self, place: int, part: str) -> None:
        place = min(place, len(DRAW["revealed"][part]) - 2)
        changed = deepcopy(DRAW)
        listed = changed["revealed"][part]
        one, other = listed[place], listed[place + 1]
        listed[place : place + 2] = [other, one]
        if part == "winners":  # the prizes stay where they are
            listed[place : place + 2] = [[other[0], one[1]], [one[0], other[1]]]
        assert wheres(changed) == [f"revealed.{part}[{place}].order", f"revealed.{part}[{place + 1}].order"]

    def test_a_winner_and_one_who_waits_change_places(self) -> None:
        changed = deepcopy(DRAW)
        winners, waiting = changed["revealed"]["winners"], changed["revealed"]["waiting"]
        winners[4][0], waiting[0] = waiting[0], winners[4][0]
        assert wheres(changed) == ["revealed.winners[4].entrant", "revealed.waiting[0].entrant"]

    @pytest.mark.parametrize("part", ["winners", "waiting"])
    def test_one_too_few_or_too_many(self, part: str) -> None:
        fewer, more = deepcopy(DRAW), deepcopy(DRAW)
        fewer["revealed"][part].pop()
        more["revealed"][part].append(more["revealed"][part][0])
        assert wheres(fewer) == wheres(more) == [f"revealed.{part}"]

    @given(index=st.integers(0, 63), digit=DIGITS, data=st.data())
    def test_a_byte_of_the_beacon_of_seed_secret_root_or_commitment(
        self, index: int, digit: str, data: st.DataObject
    ) -> None:
        names = ("revealed.beacon.value", "revealed.seed", "revealed.secret", "closed.root", "commitment")
        where = data.draw(st.sampled_from((*names, "terms.secret_sha256")))
        value = get(DRAW, where)
        changed = value[:index] + digit + value[index + 1 :]
        if changed == value:
            return
        found = wheres(put(DRAW, where, changed))
        named = {
            "revealed.secret": ["revealed.secret", "revealed.seed"],
            "closed.root": ["closed.root", "revealed.seed"],
            "terms.secret_sha256": ["commitment", "revealed.secret"],
        }
        assert found == named.get(where, [where])

    def test_the_round_and_when_it_was_seen(self) -> None:
        assert wheres(put(DRAW, "revealed.beacon.round", 8)) == ["revealed.beacon.round"]
        assert wheres(put(DRAW, "revealed.beacon.round", 9)) == ["revealed.beacon.seen_at"]
        for at in ("2025-09-20T12:59:59Z", "2025-09-20T19:00:01Z"):
            assert wheres(put(DRAW, "revealed.beacon.seen_at", at)) == ["revealed.beacon.seen_at"]
        assert "revealed.beacon.value" in wheres(put(DRAW, "revealed.beacon.value", "5a" * 31))

    def test_when_entries_were_closed(self) -> None:
        for at in ("2025-09-20T11:59:59Z", "2025-09-20T13:00:00Z"):
            assert wheres(put(DRAW, "closed.closed_at", at)) == ["closed.closed_at"]

    def test_another_value_with_a_result_made_anew_for_it_is_found_by_the_beacon_alone(self) -> None:
        """It verifies: whoever cheats so has another value than the source, which is asked for by hand."""
        other = revealed_draw()
        value = "5b" * 32
        seed = verify.seed_of(SECRET, bytes.fromhex(other["closed"]["root"]), bytes.fromhex(value))
        result = verify.select(other["terms"], other["closed"]["entries"], seed)
        other["revealed"] |= {"seed": seed.hex(), **result._asdict()}
        other["revealed"]["beacon"] = {**other["revealed"]["beacon"], "value": value}
        assert wheres(other) == []
        assert any(value in question for question in check(other).by_hand)

    @given(data=st.data())
    def test_no_change_of_any_value_at_all_is_valid(self, data: st.DataObject) -> None:
        """But for the two times at which the operator says that something was done, within what the terms allow."""
        free = {("closed", "closed_at"), ("revealed", "beacon", "seen_at")}
        leaves = [path for path in every_path(DRAW) if type(get(DRAW, path)) in (str, int) and tuple(path) not in free]
        path = data.draw(st.sampled_from(leaves))
        value = get(DRAW, path)
        other = data.draw(st.integers() if isinstance(value, int) else st.text(max_size=70))
        if other == value:
            return
        assert verdict(put(DRAW, path, other)) != "VALID"

    def test_many_differences_are_counted(self) -> None:
        changed = deepcopy(revealed_draw([Entrant(f"g.{n}") for n in range(100)]))
        for entry in changed["closed"]["entries"]:
            entry[4] = 3
        found = check(changed)
        assert (len(found.differences), found.more) == (verify.DIFFERENCES_MAX, 101 - verify.DIFFERENCES_MAX)
        assert f"  DIFFERS  in {found.more} more places" in list(found.lines())

    def test_nothing_is_said_to_hold_that_differs_past_those_that_are_told(self) -> None:
        changed = deepcopy(revealed_draw([Entrant(f"g.{n}") for n in range(100)]))
        for entry in changed["closed"]["entries"]:
            entry[4] = 3
        changed["revealed"]["winners"].reverse()
        assert [line for line in check(changed).holds if "entrants are sorted" in line or "winners" in line] == []


def every_path(value: Any) -> list[list[Any]]:
    inner: list[list[Any]] = [[]]
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        inner += [[key, *path] for path in every_path(each)]
    return inner


def get(document: Any, path: str | list[Any]) -> Any:
    for step in path.split(".") if isinstance(path, str) else path:
        document = document[int(step) if isinstance(document, list) else step]
    return document


def put(document: Json, path: str | list[Any], value: Any) -> Json:
    steps = path.split(".") if isinstance(path, str) else path
    changed = deepcopy(document)
    holder = get(changed, steps[:-1])
    holder[int(steps[-1]) if isinstance(holder, list) else steps[-1]] = value
    return changed


def test_the_paths_reach_everything() -> None:
    assert get(DRAW, every_path(DRAW)[-1]) == DRAW["revealed"]["waiting"][-1]
    assert json.loads(canonical(DRAW)) == DRAW
    assert draw_terms().items() <= DRAW["terms"].items()
