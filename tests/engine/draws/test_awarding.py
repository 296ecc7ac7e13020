"""The promise: each prize is one person's; an offer lapses only when the ledger shows that nobody claimed it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.claims.model import LimitReached, NotOpen, TicketExpired
from engine.claims.store import claim_batch
from engine.draws import awarding
from engine.draws.model import Award, AwardState, NoAward, NoSuchDraw, WrongStage, messages_for, prizes_id, replacements
from engine.drops.model import Actor
from engine.ids import ClaimId
from engine.notices.kinds import written
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.engine.draws.test_service import Killed
from tests.factories.drawn import BOSS, HOUR, Drawn, draw_spec, names, recording
from tests.factories.drops import drop_spec

ONE = [{"id": "goose", "title": {"en": "Goose"}, "stock": 1}]


@pytest.fixture
async def drawn(stores: Stores, settings: Settings) -> AsyncIterator[Drawn]:
    async with recording(stores):
        yield Drawn(stores, settings)


async def lapse(drawn: Drawn) -> awarding.Changed:
    return await drawn.draws.awarding.lapse(drawn.id, BOSS)


async def ends(drawn: Drawn, place: int, seconds: float) -> None:
    """Let an offer end so many seconds from now, by the store's own clock."""
    await drawn.sql(
        "update awards set confirm_by = :at where place = :place",
        at=datetime.now(UTC) + timedelta(seconds=seconds),
        place=place,
    )


class TestOffers:
    async def test_a_ticket_is_a_winners_alone_and_of_their_prize(self, drawn: Drawn) -> None:
        await drawn.whole(*names(6))
        awards = await drawn.awards()
        waiting, loser = awards[3].member_id, set(names(6)) - {award.member_id for award in awards}
        for other in (waiting, *loser, "stranger"):
            with pytest.raises(NoAward):
                await drawn.prize_ticket(other)
        claim = await drawn.claim_prize(awards[2].member_id)
        assert claim.item == "mooncake"
        with pytest.raises(LimitReached):
            await drawn.claim_prize(awards[2].member_id)

    async def test_a_ticket_for_another_prize_is_refused(self, drawn: Drawn) -> None:
        from engine.members.model import Session

        await drawn.whole(*names(6))
        award = (await drawn.awards())[0]
        drop = await drawn.drops.get(prizes_id("goose"))
        offer = await drawn.draws.awarding.offer_to(award.subject, drop, 60)
        session = Session(award.member_id, award.subject)
        with pytest.raises(NoAward, match="'goose'"):
            drawn.claims.issue_ticket(session, drop, "mooncake", 1, offer=offer)
        with pytest.raises(NoAward):
            drawn.claims.issue_ticket(session, drop, "goose", 1)

    async def test_either_account_of_a_person_gets_the_one_prize(self, drawn: Drawn) -> None:
        await drawn.whole(("m-1", "person"), prizes=ONE)
        assert (await drawn.claim_prize("m-2", "person")).item == "goose"
        with pytest.raises(LimitReached):
            await drawn.claim_prize("m-1", "person")

    async def test_before_the_reveal_nothing_is_offered(self, drawn: Drawn) -> None:
        await drawn.commit()
        await drawn.enter("m-1")
        with pytest.raises(NoAward):
            await drawn.prize_ticket("m-1")
        with pytest.raises(WrongStage):
            await lapse(drawn)

    async def test_before_the_commitment_too(self, drawn: Drawn) -> None:
        await drawn.drops.create(draw_spec(drawn.id), BOSS)
        with pytest.raises(WrongStage):
            await lapse(drawn)

    async def test_what_is_no_draw_offers_nothing(self, drawn: Drawn) -> None:
        await drawn.drops.create(drop_spec(drawn.id), BOSS)
        with pytest.raises(NoSuchDraw):
            await lapse(drawn)

    async def test_a_ticket_ends_with_its_offer(self, drawn: Drawn) -> None:
        await drawn.whole(*names(6))
        award = (await drawn.awards())[0]
        drawn.clocked.shift = timedelta()
        await ends(drawn, 1, 0.3)
        ticket = await drawn.prize_ticket(award.member_id)
        await asyncio.sleep(0.4)
        with pytest.raises(TicketExpired):
            await drawn.claim_prize(award.member_id, ticket=ticket)
        with pytest.raises(NoAward):
            await drawn.prize_ticket(award.member_id)


class TestLapse:
    async def test_passes_a_prize_on_in_order_with_as_long(self, drawn: Drawn) -> None:
        await drawn.whole(*names(6))
        await drawn.claim_prize((await drawn.awards())[1].member_id)
        drawn.clocked.shift = 60 * HOUR
        changed = await lapse(drawn)
        assert (changed.claimed, sorted(changed.lapsed), list(changed.offered)) == ([2], [1, 3], [4, 5])
        awards = await drawn.awards()
        assert [(award.prize, award.state) for award in awards[3:]] == [("goose", "offered"), ("mooncake", "offered")]
        assert awards[3].offered_at is not None
        assert awards[3].confirm_by == awards[3].offered_at + 48 * HOUR
        assert await lapse(drawn) == awarding.Changed([], [], [], [])
        drawn.clocked.shift = 120 * HOUR
        assert sorted((await lapse(drawn)).lapsed) == [4, 5]
        for report in await drawn.audits():
            assert report.details == []

    async def test_never_takes_what_was_claimed_at_the_last_moment(self, stores: Stores, settings: Settings) -> None:
        """The claim is in the outbox, and no worker runs: lapse waits for the ledger and then finds it there."""
        drawn = Drawn(stores, settings)
        async with recording(stores):
            await drawn.whole(*names(6))
        award = (await drawn.awards())[0]
        drawn.clocked.shift = timedelta()
        await ends(drawn, 1, 0.5)
        ticket = await drawn.prize_ticket(award.member_id)
        await asyncio.sleep(0.3)
        await drawn.claim_prize(award.member_id, ticket=ticket)
        await asyncio.sleep(0.3)
        lapsing = asyncio.create_task(lapse(drawn))
        await asyncio.sleep(0.3)
        assert not lapsing.done()
        async with recording(stores):
            changed = await lapsing
        assert (changed.claimed, changed.lapsed, changed.offered) == ([1], [], [])

    async def test_races_with_claims_give_out_no_unit_twice(self, drawn: Drawn) -> None:
        await drawn.whole(*names(7), waiting=3)  # enough also if a slow machine lets all three lapse
        drawn.clocked.shift = timedelta()
        awards = await drawn.awards()
        for place in (1, 2, 3):
            await ends(drawn, place, 0.4)
        tickets = [await drawn.prize_ticket(award.member_id) for award in awards[:3]]

        async def at_the_last_moment(award: Award, ticket: str, after_s: float) -> str:
            await asyncio.sleep(after_s)
            try:
                return (await drawn.claim_prize(award.member_id, ticket=ticket)).item
            except TicketExpired:
                return ""

        claiming = [
            at_the_last_moment(award, ticket, after_s)
            for award, ticket, after_s in zip(awards, tickets, (0.2, 0.37, 0.5), strict=False)
        ]
        lapsing = [asyncio.create_task(lapse(drawn)) for _ in range(4)]
        got = await asyncio.gather(*claiming)
        await asyncio.gather(*lapsing, lapse(drawn))
        for award in (await drawn.awards())[3:]:
            if award.state is AwardState.OFFERED:
                got.append((await drawn.claim_prize(award.member_id)).item)
        await asyncio.sleep(0.4)
        await lapse(drawn)
        assert Counter(filter(None, got)) == {"goose": 2, "mooncake": 1}
        assert Counter(await drawn.states())["claimed"] == 3
        for report in await drawn.audits():
            assert (report.details, report.oversold) == ([], 0)

    async def test_an_entry_that_was_given_back_is_out(self, drawn: Drawn) -> None:
        await drawn.whole(*names(6))
        awards = await drawn.awards()
        for place in (0, 3):
            await drawn.release(ClaimId.parse(awards[place].entrant))
        await asyncio.sleep(0.3)
        changed = await lapse(drawn)
        assert (sorted(changed.declined), list(changed.offered)) == ([1, 4], [5])
        with pytest.raises(NoAward):
            await drawn.prize_ticket(awards[0].member_id)

    async def test_after_the_prizes_closed_nothing_is_offered(self, drawn: Drawn) -> None:
        await drawn.whole(*names(6))
        drawn.clocked.shift = 24 * 60 * HOUR
        changed = await lapse(drawn)
        assert (len(changed.lapsed), changed.offered) == (3, [])


class TestDecline:
    async def test_passes_the_prize_on(self, drawn: Drawn) -> None:
        await drawn.whole(*names(6))
        award = (await drawn.awards())[0]
        first = await drawn.draws.awarding.decline("goose", award.subject)
        assert first.state is AwardState.DECLINED
        assert await drawn.draws.awarding.decline("goose", award.subject) == first
        with pytest.raises(NoAward):
            await drawn.prize_ticket(award.member_id)
        assert list((await lapse(drawn)).offered) == [4]

    async def test_with_a_ticket_in_hand_passes_it_on_only_when_that_has_expired(self, drawn: Drawn) -> None:
        await drawn.whole(*names(6))
        award = (await drawn.awards())[0]
        ticket = await drawn.prize_ticket(award.member_id)
        await drawn.draws.awarding.decline("goose", award.subject)
        assert (await lapse(drawn)).offered == []
        assert (await drawn.claim_prize(award.member_id, ticket=ticket)).item == "goose"
        await asyncio.sleep(0.4)
        assert (await lapse(drawn)).claimed == [1]
        other = (await drawn.awards())[1]
        await drawn.prize_ticket(other.member_id)
        await drawn.draws.awarding.decline("goose", other.subject)
        drawn.clocked.shift += timedelta(seconds=drawn.settings.ticket_ttl_s + 120)
        assert list((await lapse(drawn)).offered) == [4]

    async def test_of_what_is_claimed_or_nobodys_is_refused(self, drawn: Drawn) -> None:
        await drawn.whole(*names(6))
        award = (await drawn.awards())[0]
        await drawn.claim_prize(award.member_id)
        await asyncio.sleep(0.4)
        for draw_id, subject in (("goose", award.subject), ("goose", "stranger"), ("nothing", award.subject)):
            with pytest.raises(NoAward):
                await drawn.draws.awarding.decline(draw_id, subject)

    async def test_of_a_place_on_the_waiting_list_is_passed_over(self, drawn: Drawn) -> None:
        await drawn.whole(*names(6))
        awards = await drawn.awards()
        for place in (0, 3):
            await drawn.draws.awarding.decline("goose", awards[place].subject)
        assert list((await lapse(drawn)).offered) == [5]


class TestWithoutConfirm:
    async def test_prizes_are_claimed_for_the_winners(self, drawn: Drawn) -> None:
        await drawn.whole(*names(6), confirm=None, waiting=0)
        assert await drawn.states() == ["claimed"] * 3
        await drawn.draws.awarding.grant_all("goose", BOSS)
        await drawn.reveal()
        for report in await drawn.audits():
            assert (report.details, report.oversold) == ([], 0)
        assert (await drawn.audits())[1].accepted == 3

    @pytest.mark.parametrize("done", [0, 1, 2])
    async def test_killed_in_the_middle_each_prize_is_claimed_once(
        self, drawn: Drawn, monkeypatch: pytest.MonkeyPatch, done: int
    ) -> None:
        batches = [0]

        async def killed(*what: object) -> object:
            if batches[0] == done:
                raise Killed
            batches[0] += 1
            return await claim_batch(*what)  # type: ignore[arg-type]

        monkeypatch.setattr(awarding, "BATCH_CLAIMS_MAX", 1)
        monkeypatch.setattr(awarding, "claim_batch", killed)
        with pytest.raises(Killed):
            await drawn.whole(*names(6), confirm=None, waiting=0)
        monkeypatch.undo()
        await asyncio.gather(*(drawn.draws.awarding.grant_all("goose", Actor(f"boss-{n}")) for n in range(3)))
        assert await drawn.states() == ["claimed"] * 3
        assert (await drawn.audits())[1].accepted == 3

    async def test_one_that_its_winner_took_first_is_theirs(
        self, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def nothing(*_: object) -> awarding.Changed:
            return awarding.Changed()

        monkeypatch.setattr(drawn.draws.awarding, "grant_all", nothing)
        await drawn.whole(*names(6), confirm=None, waiting=0)
        monkeypatch.undo()
        await drawn.claim_prize((await drawn.awards())[0].member_id)
        await drawn.draws.awarding.grant_all("goose", BOSS)
        assert await drawn.states() == ["claimed"] * 3

    async def test_before_the_prizes_open_it_is_said(self, drawn: Drawn) -> None:
        await drawn.whole(*names(6), confirm=None, waiting=0)
        await drawn.sql("update awards set state = 'offered', subject = subject || 'x'")
        await drawn.stores.redis.hset("fc:{0}:drop:goose-prizes", "opens_ms", "99999999999999")
        with pytest.raises(NotOpen):
            await drawn.draws.awarding.grant_all("goose", BOSS)


class TestReplacements:
    @given(
        st.lists(st.integers(0, 5), min_size=1, max_size=5), st.lists(st.integers(0, 5), min_size=5), st.integers(0, 9)
    )
    def test_give_no_more_than_is_free_in_order(self, stock: list[int], taken: list[int], waiting: int) -> None:
        units = [(f"p{level}", count) for level, count in enumerate(stock)]
        held = {f"p{level}": min(taken[level], count) for level, count in enumerate(stock)}
        offered = list(replacements(units, held, range(waiting)))
        free = sum(stock) - sum(held.values())
        assert [place for place, _ in offered] == list(range(min(free, waiting)))
        assert [prize for _, prize in offered] == sorted(prize for _, prize in offered)
        for prize, count in Counter(prize for _, prize in offered).items():
            assert count + held[prize] <= dict(units)[prize]


class TestMessages:
    def test_tell_winners_in_both_languages_until_when(self) -> None:
        spec, at = draw_spec(), datetime(2025, 9, 21, 12, tzinfo=UTC)
        award = Award("goose", 1, "goose.0.1", "m-1", "m-1", "goose", AwardState.OFFERED, at, at + 48 * HOUR)
        (message,) = messages_for(spec, [award])
        assert (message.member_id, message.kind, message.once) == ("m-1", "draw-won", "draw:goose:1:offered")
        assert written(message.kind, message.facts) == {
            "zh": "您在“烧鹅”中抽中了烧鹅，请在2025-09-23 12:00前确认领取，逾期由候补者递补。",
            "en": "You won the Goose in “Roast geese”. Confirm it before 2025-09-23 12:00, or the next on the waiting"
            " list gets it.",
        }

    def test_there_is_one_for_every_state(self) -> None:
        awards: Sequence[Award] = [
            Award("goose", 1, "goose.0.1", "m-1", "m-1", None, state, None, None) for state in AwardState
        ]
        assert len({message.kind for message in messages_for(draw_spec(), awards)}) == len(AwardState)
