"""The promise: a draw goes from entries to prizes by the same claims as all else; each step is done once, for good."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.draws import packing, store
from engine.draws.model import Draw, DrawAltered, NoSuchDraw, WrongStage, prizes_id
from engine.draws.publication import DrawInvalid
from engine.draws.service import PointsInvalid
from engine.draws.verify import check, check_proof
from engine.drops.model import Actor, AlreadyCommitted, DuplicateDrop, NotCommitted
from engine.drops.spec import parse
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.factories.drawn import BOSS, HOUR, VALUE, Drawn, draw_json, draw_spec, lines, names, recording
from tests.factories.drops import drop_spec

VERIFY = Path(__file__).parents[3] / "engine" / "draws" / "verify.py"


@pytest.fixture
async def drawn(stores: Stores, settings: Settings) -> AsyncIterator[Drawn]:
    async with recording(stores):
        yield Drawn(stores, settings)


class Killed(Exception):
    """Stands for the end of a process in the middle of a step."""


def kill_at(monkeypatch: pytest.MonkeyPatch, place: Any, name: str) -> None:
    """Let the process end where a function would be called."""

    async def killed(*_: object, **__: object) -> None:
        raise Killed(name)

    monkeypatch.setattr(place, name, killed)


async def test_the_whole_way_of_a_small_draw(drawn: Drawn, tmp_path: Path) -> None:
    result = await drawn.whole(*names(6))
    assert [prize for _, prize in result["winners"]] == ["goose", "goose", "mooncake"]
    assert await drawn.states() == ["offered"] * 3 + ["waiting"] * 2
    won = await drawn.awards()
    for award in won[:3]:
        claim = await drawn.claim_prize(award.member_id)
        assert (claim.item, claim.serial) == (award.prize, award.place)
    changed = await drawn.draws.awarding.lapse(drawn.id, BOSS)
    assert (sorted(changed.claimed), changed.offered) == ([1, 2, 3], [])
    for report in await drawn.audits():
        assert (report.details, report.oversold, report.waiting) == ([], 0, 0)
    assert [act["verb"] for act in await drawn.acts()] == ["commit", "close", "reveal", "lapse"]
    published = tmp_path / "draw.json"
    published.write_text(json.dumps(await drawn.document()))
    done = await asyncio.create_subprocess_exec(sys.executable, "-I", VERIFY, published, stdout=asyncio.subprocess.PIPE)
    output = (await done.communicate())[0].decode()
    assert (done.returncode, output.splitlines()[-1]) == (0, "VALID"), output


class TestCommit:
    async def test_comes_before_the_launch(self, drawn: Drawn) -> None:
        await drawn.drops.create(draw_spec(), BOSS)
        with pytest.raises(NotCommitted):
            await drawn.drops.launch("goose", BOSS)
        with pytest.raises(NoSuchDraw):
            await drawn.draws.read("goose")

    async def test_comes_before_the_opening(self, drawn: Drawn) -> None:
        await drawn.drops.create(draw_spec(), BOSS)
        with pytest.raises(WrongStage, match="before it opens"):
            await drawn.draws.commit("goose", BOSS)
        assert await drawn.sql("select from draws") == []

    async def test_is_of_a_draw_alone(self, drawn: Drawn) -> None:
        await drawn.drops.create(drop_spec("trial"), BOSS)
        with pytest.raises(NoSuchDraw, match="is no draw"):
            await drawn.draws.commit("trial", BOSS)

    async def test_names_earlier_draws_that_there_are(self, drawn: Drawn) -> None:
        with pytest.raises(NoSuchDraw, match="'earlier'"):
            await drawn.commit(misses_in=["earlier"])
        assert await drawn.sql("select from draws") == []

    async def test_wants_the_name_of_the_prizes_drop(self, drawn: Drawn) -> None:
        await drawn.drops.create(drop_spec(prizes_id("goose")), BOSS)
        with pytest.raises(DuplicateDrop):
            await drawn.commit()
        assert await drawn.sql("select from draws") == []

    async def test_again_changes_nothing_and_ends_what_was_cut_off(
        self, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await drawn.drops.create(draw_spec(), BOSS)
        drawn.clocked.shift = -2 * HOUR
        kill_at(monkeypatch, drawn.draws, "_create_prizes")
        with pytest.raises(Killed):
            await drawn.draws.commit("goose", BOSS)
        monkeypatch.undo()
        first = await drawn.draws.read("goose")
        assert await drawn.draws.commit("goose", Actor("other")) == first
        assert (await drawn.drops.read(prizes_id("goose"))).spec.allocation == "grant"
        assert [act["actor"] for act in await drawn.acts()] == ["boss"]

    async def test_by_two_at_once_is_one(self, drawn: Drawn) -> None:
        await drawn.drops.create(draw_spec(), BOSS)
        drawn.clocked.shift = -2 * HOUR
        one, two = await asyncio.gather(drawn.draws.commit("goose", BOSS), drawn.draws.commit("goose", Actor("other")))
        assert one == two
        assert len(await drawn.acts()) == 1

    async def test_fixes_what_is_drawn_by(self, drawn: Drawn) -> None:
        await drawn.commit()
        for change in ({"closes_at": "2099-01-01T00:00:00Z"}, {"draw": None}, {"allocation": "rush"}):
            with pytest.raises(AlreadyCommitted):
                await drawn.drops.amend("goose", change, None, BOSS)
        assert (await drawn.drops.amend("goose", {"title": {"en": "Geese"}}, None, BOSS)).spec.title == {"en": "Geese"}

    async def test_keeps_the_secret_to_itself(self, drawn: Drawn, capsys: pytest.CaptureFixture[str]) -> None:
        await drawn.commit()
        await drawn.enter(*names(3))
        await drawn.close()
        ((secret,),) = await drawn.sql("select secret from draws")
        kept = await drawn.draws._kept("goose")
        shown = lines([await drawn.acts(), await drawn.document(), await drawn.draws.read("goose"), repr(kept)])
        keys = [await drawn.stores.redis.hgetall(key) for key in await drawn.stores.redis.keys("*drop*")]
        output = capsys.readouterr()
        for text in (shown, str(keys), output.out, output.err):
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text


class TestClose:
    async def test_comes_after_the_drops_close_and_before_the_beacon(self, drawn: Drawn) -> None:
        await drawn.commit()
        with pytest.raises(WrongStage, match="takes entries until"):
            await drawn.draws.close("goose", BOSS)
        await drawn.closing()
        drawn.clocked.shift = 2 * HOUR
        with pytest.raises(DrawInvalid, match="closed_at"):
            await drawn.draws.close("goose", BOSS)
        assert (await drawn.draws.read("goose")).state == "committed"

    async def test_of_what_was_never_launched_is_refused(self, drawn: Drawn) -> None:
        await drawn.drops.create(draw_spec(), BOSS)
        drawn.clocked.shift = -2 * HOUR
        await drawn.draws.commit("goose", BOSS)
        drawn.clocked.shift = timedelta(minutes=1)
        with pytest.raises(WrongStage, match="never launched"):
            await drawn.draws.close("goose", BOSS)

    async def test_takes_each_person_once_and_nobody_who_left(self, drawn: Drawn) -> None:
        await drawn.commit()
        claims = await drawn.enter("m-1", "m-2", ("m-3", "person"), "m-4")
        await asyncio.sleep(0.3)
        await drawn.release(claims[1].claim_id)
        draw = await drawn.close()
        document = await drawn.document()
        kept = sorted(str(claim.claim_id) for number, claim in enumerate(claims) if number != 1)
        assert [entry[0] for entry in document["closed"]["entries"]] == kept
        assert (draw.entrants, draw.root) == (3, document["closed"]["root"])

    async def test_of_nobody_is_a_draw_too(self, drawn: Drawn) -> None:
        result = await drawn.whole()
        assert (result["winners"], result["waiting"]) == ([], [])
        assert check(await drawn.document()).differences == []

    async def test_waits_for_the_ledger(self, stores: Stores, settings: Settings) -> None:
        drawn = Drawn(stores, settings)
        await drawn.commit()
        await drawn.enter(*names(3))
        await drawn.closing()
        closing = asyncio.create_task(drawn.close())
        await asyncio.sleep(0.3)
        assert not closing.done()
        async with recording(stores):
            assert (await closing).entrants == 3

    async def test_again_by_two_at_once_and_after_a_cut_is_the_same(
        self, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await drawn.commit()
        await drawn.enter(*names(3))
        await drawn.closing()
        kill_at(monkeypatch, store, "close")
        with pytest.raises(Killed):
            await drawn.close()
        monkeypatch.undo()
        assert (await drawn.draws.read("goose")).state == "committed"
        one, two = await asyncio.gather(drawn.close(), drawn.draws.close("goose", Actor("other")))
        assert one == two == await drawn.close()
        assert [act["verb"] for act in await drawn.acts()] == ["commit", "close"]

    async def test_a_large_one_in_a_process_of_its_own_is_the_same(
        self, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await drawn.commit()
        await drawn.enter(*names(5))
        monkeypatch.setattr(packing, "DRAW_ENTRIES_HERE_MAX", 2)
        await drawn.close()
        with pytest.raises(DrawInvalid, match="must be one of 7, 9"):
            await drawn.reveal(number=8)
        await drawn.reveal()
        assert check(await drawn.document()).differences == []


class TestWeights:
    async def test_misses_are_those_of_earlier_draws_and_points_are_given(self, drawn: Drawn) -> None:
        result = await drawn.whole(*names(5))
        prizes = len(result["winners"])
        later = Drawn(drawn.stores, drawn.settings, "again")
        await later.commit(misses_in=["goose"])
        await later.draws.give_points("again", {"m-0": 250, "m-1": 99, "stranger": 7}, BOSS)
        claims = await later.enter(*names(6))
        await later.close()
        entries = {entry[0]: entry for entry in (await later.document())["closed"]["entries"]}
        won = {award.member_id for award in (await drawn.awards())[:prizes]}
        for number, claim in enumerate(claims):
            _, base, misses, points, weight = entries[str(claim.claim_id)]
            missed = number < 5 and f"m-{number}" not in won
            assert (base, misses, points) == (1, int(missed), 200 if number == 0 else 0)
            assert weight == 1 + misses + points // 100
        with pytest.raises(WrongStage):
            await later.draws.give_points("again", {"m-0": 1}, BOSS)

    async def test_an_earlier_draw_is_revealed_first(self, drawn: Drawn) -> None:
        await drawn.commit()
        later = Drawn(drawn.stores, drawn.settings, "again")
        await later.commit(misses_in=["goose"])
        await later.closing()
        with pytest.raises(WrongStage, match="reveal it first"):
            await later.close()

    async def test_points_that_are_none_are_refused(self, drawn: Drawn) -> None:
        await drawn.commit()
        for wrong in (-1, 2**31):
            with pytest.raises(PointsInvalid):
                await drawn.draws.give_points("goose", {"m-1": wrong}, BOSS)
        assert await drawn.sql("select from draw_points") == []


class TestReveal:
    @pytest.fixture
    async def closed(self, drawn: Drawn) -> Drawn:
        await drawn.commit()
        await drawn.enter(*names(6))
        await drawn.close()
        return drawn

    async def test_comes_after_the_close(self, drawn: Drawn) -> None:
        await drawn.commit()
        with pytest.raises(WrongStage):
            await drawn.reveal()

    @pytest.mark.parametrize(
        ("value", "number"), [("5a" * 31, 7), ("5A" * 32, 7), ("", 7), ("zz" * 32, 7), (VALUE, 8), (VALUE, -1)]
    )
    async def test_takes_no_malformed_value(self, closed: Drawn, value: str, number: int) -> None:
        with pytest.raises(DrawInvalid):
            await closed.reveal(value, number)
        assert (await closed.draws.read("goose")).state == "closed"
        assert "revealed" not in await closed.document()

    async def test_takes_no_early_late_or_future_value(self, closed: Drawn) -> None:
        good = await closed.beacon()
        with pytest.raises(DrawInvalid, match="has not come yet"):
            await closed.draws.reveal("goose", good, BOSS)
        closed.clocked.shift = 24 * HOUR
        for seen_at in (good.seen_at - timedelta(seconds=1), good.seen_at + 2 * HOUR + timedelta(seconds=1)):
            with pytest.raises(DrawInvalid, match="seen_at"):
                await closed.draws.reveal("goose", good._replace(seen_at=seen_at), BOSS)
        with pytest.raises(DrawInvalid, match="has not come"):
            await closed.draws.reveal("goose", good._replace(seen_at=good.seen_at.replace(tzinfo=None)), BOSS)

    async def test_a_missing_value_is_followed_by_the_next_round(self, closed: Drawn) -> None:
        closed.clocked.shift = 24 * HOUR
        await closed.reveal(number=9)
        assert (await closed.document())["revealed"]["beacon"]["round"] == 9

    async def test_is_final(self, closed: Drawn) -> None:
        closed.clocked.shift = 24 * HOUR
        first = await closed.reveal()
        assert await closed.reveal() == first
        for value, number in (("00" * 32, 7), (VALUE, 9)):
            with pytest.raises(DrawInvalid, match="final"):
                await closed.reveal(value, number)
        assert [act["verb"] for act in await closed.acts()].count("reveal") == 1

    async def test_by_two_at_once_with_two_values_is_one_of_them(self, closed: Drawn) -> None:
        answers = await asyncio.gather(closed.reveal(), closed.reveal("00" * 32), return_exceptions=True)
        assert sorted(type(answer).__name__ for answer in answers) == ["Draw", "DrawInvalid"]
        assert check(await closed.document()).differences == []
        assert len(await closed.awards()) == 5

    @pytest.mark.parametrize("where", ["award", "_record", "open"])
    async def test_cut_off_anywhere_is_done_again(
        self, closed: Drawn, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        from engine.draws import service

        kill_at(monkeypatch, {"award": store, "_record": service, "open": closed.draws.awarding}[where], where)
        with pytest.raises(Killed):
            await closed.reveal()
        monkeypatch.undo()
        assert (await closed.draws.read("goose")).state == ("revealed" if where == "open" else "closed")
        await closed.reveal()
        assert await closed.states() == ["offered"] * 3 + ["waiting"] * 2
        assert (await closed.drops.read(prizes_id("goose"))).status == "launched"

    async def test_a_document_that_was_altered_is_refused(self, closed: Drawn) -> None:
        kept = await closed.draws._kept("goose")
        document = packing.unpack(kept.published)
        changes: list[Callable[[Any], Any]] = [
            lambda d: d["closed"]["entries"][0].__setitem__(1, 2),
            lambda d: d["closed"]["entries"].pop(),
            lambda d: d["closed"].__setitem__("root", "0" * 64),
            lambda d: d["terms"]["prizes"][0].__setitem__("stock", 3),
            lambda d: d.__setitem__("commitment", "0" * 64),
            lambda d: d.pop("closed"),
        ]
        for change in changes:
            altered = json.loads(json.dumps(document))
            change(altered)
            await closed.sql("update draws set document = :document", document=packing.pack(altered))
            with pytest.raises((DrawAltered, DrawInvalid)):
                await closed.reveal()
        for wrong in (b"", b"no gzip", packing.pack(document)[:-20], packing.pack({"terms": []})):
            await closed.sql("update draws set document = :document", document=wrong)
            with pytest.raises(DrawAltered):
                await closed.reveal()
        whole = {"secret": bytes(32), "document": packing.pack(document)}
        await closed.sql("update draws set secret = :secret, document = :document", **whole)
        with pytest.raises(DrawInvalid, match="not the one that was committed to"):
            await closed.reveal()
        assert await closed.awards() == []


class TestVoid:
    async def test_only_where_no_result_is_possible(self, drawn: Drawn) -> None:
        await drawn.commit()
        with pytest.raises(WrongStage):
            await drawn.draws.void("goose", BOSS, "why not")
        await drawn.close()
        drawn.clocked.shift = 2 * HOUR
        with pytest.raises(WrongStage):
            await drawn.draws.void("goose", BOSS, "no value seen")
        drawn.clocked.shift = 10 * HOUR
        draw = await drawn.draws.void("goose", BOSS, "no value seen")
        assert draw.state == "void"
        assert await drawn.draws.void("goose", BOSS, "again") == draw
        with pytest.raises(WrongStage):
            await drawn.reveal()
        with pytest.raises(WrongStage):
            await drawn.close()
        assert (await drawn.acts())[-1]["change"] == {"reason": "no value seen"}

    async def test_not_after_the_reveal(self, drawn: Drawn) -> None:
        await drawn.whole("m-1")
        drawn.clocked.shift = 100 * HOUR
        with pytest.raises(WrongStage):
            await drawn.draws.void("goose", BOSS, "I lost")


class TestProofs:
    async def test_each_entrant_has_one_over_several_pages(self, drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packing, "DRAW_PAGE_ENTRIES", 4)
        await drawn.commit()
        with pytest.raises(WrongStage):
            await drawn.draws.proof_for("goose", "m-0")
        await drawn.enter(*names(11))
        await drawn.close()
        document = await drawn.document()
        for name in names(11):
            assert check_proof(document, await drawn.draws.proof_for("goose", name)).differences == []
        for stranger in ("m-99", "goose.0.1"):
            with pytest.raises(DrawInvalid, match="not among"):
                await drawn.draws.proof_for("goose", stranger)
        with pytest.raises(NoSuchDraw):
            await drawn.draws.proof_for("nothing", "m-1")


@pytest.mark.parametrize("draw_id", ["nothing", "", "no\0name", "x" * 200, "UPPER"])
async def test_a_draw_that_there_is_not_is_named(drawn: Drawn, draw_id: str) -> None:
    asked: list[Any] = [
        drawn.draws.read(draw_id),
        drawn.draws.document(draw_id),
        drawn.draws.close(draw_id, BOSS),
        drawn.draws.proof(draw_id, "x"),
    ]
    for each in asked:
        with pytest.raises(NoSuchDraw):
            await each


def test_the_prizes_drop_gives_out_what_was_committed_to() -> None:
    from engine.draws.model import prizes_spec

    spec = parse(draw_json(), "test")
    prizes = prizes_spec(spec)
    assert [(item.id, item.stock) for item in prizes.items] == [("goose", 2), ("mooncake", 1)]
    assert (prizes.limit_per_member, prizes.opens_at) == (1, spec.opens_at)


def test_a_draw_shows_no_secret() -> None:
    assert "secret" not in Draw.__slots__
