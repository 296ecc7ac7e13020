"""The promise: what the ledger knows of members decides as their attributes do, and a name that stands for nothing is
refused before anybody relies on it."""

from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from engine import towns
from engine.drops.spec import SpecInvalid
from engine.ledger import actions
from engine.ledger.schema import list_members, lists, members
from engine.members import store
from engine.members.attributes import Value
from engine.members.model import Session
from engine.members.predicate import NOTHING_KNOWN, Eligibility, Known, Predicate, reasons
from engine.members.selection import Named, selection
from engine.members.service import MemberInvalid, Members, PredicateInvalid
from engine.organisations.model import Organisation
from engine.organisations.service import Organisations
from tests.factories.members import LISTS, ORGANISATIONS, SEGMENTS, TODAY, attributes, predicates

ADAPTER: TypeAdapter[Predicate] = TypeAdapter(Eligibility)


@pytest.fixture
async def service(ledger: AsyncEngine) -> Members:
    """The service on a ledger with the tree, lists and segments of tests/factories/members.py."""
    organisations = Organisations(ledger)
    above: str | None = None
    for organisation in ORGANISATIONS:
        found = Organisation(
            id=organisation, kind="town" if above else "city", title={"en": organisation}, parent=above
        )
        await organisations.put(found, "boss", None)
        above = organisation
    async with ledger.begin() as connection:
        for name in LISTS:
            await connection.execute(lists.insert().values(name=name))
    made = Members(ledger, organisations, towns.load())
    for name, where in SEGMENTS.items():
        await made.save_segment(name, where, "boss")
    return made


class TestNames:
    @pytest.mark.parametrize(
        ("where", "words"),
        [
            ({"list": "courier"}, "x: no such list 'courier': did you mean 'couriers'"),
            ({"not": {"any_of": [{"segment": "riderz"}]}}, "x: no such segment 'riderz': did you mean 'riders'"),
            ({"organisation": {"under": "dalan"}}, "x: no such organisation: did you mean 'dalang'"),
        ],
    )
    async def test_that_stand_for_nothing_are_refused(self, service: Members, where: Any, words: str) -> None:
        with pytest.raises(SpecInvalid, match=words):
            await service.check_named(ADAPTER.validate_python(where), SpecInvalid, "x")

    @pytest.mark.parametrize(
        ("where", "words"),
        [
            ({}, "says nothing"),
            (None, "where: input should be a valid dictionary"),
            ({"segment": "riders"}, "where: names a segment"),
            ({"list": "nobody"}, "no such list"),
            ({"town": {"inn": ["x"]}}, "where.town.inn: unknown name: did you mean 'in'"),
        ],
    )
    async def test_a_segment_that_cannot_be_judged_is_not_saved(self, service: Members, where: Any, words: str) -> None:
        with pytest.raises(PredicateInvalid, match=words):
            await service.save_segment("new", where, "boss")
        assert sorted(await service.segments()) == sorted(SEGMENTS)

    async def test_while_there_is_no_tree_each_organisation_will_do(self, ledger: AsyncEngine) -> None:
        await Organisations(ledger).check_known(["anything"], SpecInvalid, "organisation")


class TestKnown:
    async def test_nothing_is_asked_where_attributes_are_enough(self, service: Members, ledger: AsyncEngine) -> None:
        await ledger.dispose()
        plain = ADAPTER.validate_python({"town": {"in": ["大朗"]}, "not": {"tags": {"has_any": ["x"]}}})
        assert await service.known(Session("m-1", "m-1"), plain) is NOTHING_KNOWN

    async def test_a_member_is_on_a_list_by_their_id_and_by_their_person(
        self, service: Members, ledger: AsyncEngine
    ) -> None:
        async with ledger.begin() as connection:
            for member in ("m-1", "person-2"):
                await connection.execute(list_members.insert().values(list="couriers", member=member))
        on = ADAPTER.validate_python({"list": "couriers"})
        for session, is_on in (
            (Session("m-1", "m-1"), True),
            (Session("m-2", "person-2"), True),
            (Session("m-3", "m-3"), False),
            (Session("person-1", "person-3"), False),
        ):
            assert bool((await service.known(session, on)).lists) is is_on

    async def test_the_path_begins_where_the_token_says_and_else_where_the_ledger_says(
        self, service: Members, ledger: AsyncEngine
    ) -> None:
        await service.put("m-1", "m-1", {"organisation": "factory-7"}, "boss", None)
        under = ADAPTER.validate_python({"organisation": {"under": "dongguan"}})
        for told, path in (
            ({}, ("factory-7", "dalang", "dongguan")),
            ({"organisation": "dalang"}, ("dalang", "dongguan")),
            ({"organisation": "elsewhere"}, ("elsewhere",)),
        ):
            assert (await service.known(Session("m-1", "m-1", "member", told), under)).path == path
        assert (await service.known(Session("m-2", "m-2"), under)).path == ()

    async def test_it_is_as_it_was_within_the_last_second(
        self, service: Members, ledger: AsyncEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        on, session = ADAPTER.validate_python({"segment": "riders"}), Session("m-1", "m-1")
        assert (await service.known(session, on)).lists == frozenset()
        async with ledger.begin() as connection:
            await connection.execute(list_members.insert().values(list="couriers", member="m-1"))
        assert (await service.known(session, on)).lists == frozenset()
        monkeypatch.setattr("engine.members.service.KNOWN_MEMBERS_MAX", 0)  # forgets whom it knew
        assert (await service.known(Session("m-2", "m-2"), on)).lists == frozenset()
        assert (await service.known(session, on)).lists == {"couriers"}

    async def test_the_dry_run_tells_all_that_speaks_against_a_member(self, service: Members) -> None:
        await service.put("m-1", "m-1", {"town": "东坑", "new_employment_form": False}, "boss", None)
        where = {"segment": "locals", "all_of": [{"list": "couriers"}, {"joined_at": {"before": "2025-01-01"}}]}
        told = await service.reasons("m-1", ADAPTER.validate_python(where), TODAY)
        assert [reason.attribute for reason in told] == ["town", "list", "joined_at"]


class TestPut:
    @pytest.mark.parametrize(
        ("given_", "field"),
        [
            ({"twon": "大朗"}, "attributes.twon: unknown name: did you mean 'town'"),
            ({"town": "大郎"}, "attributes.town: no such town"),
            ({"town": 5}, "attributes.town: write a printable text"),
            ({"sector": "x" * 201}, "attributes.sector: write a printable text"),
            ({"joined_at": "2025-02-30"}, "attributes.joined_at: write a date"),
            ({"joined_at": "20250101"}, "attributes.joined_at: write a date"),
            (
                {"birthday": "1990-06-14"},
                "attributes.birthday: write month and day like 06-14; the year is kept nowhere",
            ),
            ({"birthday": "06-31"}, "attributes.birthday: write month and day"),
            ({"new_employment_form": "yes"}, "attributes.new_employment_form: write true or false"),
            ({"tags": "courier"}, "attributes.tags: write a list"),
            ({"tags": ["a"] * 51}, "attributes.tags: write a list of at most 50"),
            ({"tags": ["a", 5]}, "attributes.tags: write a printable text"),
            ({"organisation": "Dalang"}, "attributes.organisation: write an id"),
            ({"organisation": "dalan"}, "attributes.organisation: no such organisation: did you mean 'dalang'"),
        ],
    )
    async def test_what_is_of_the_wrong_kind_is_refused(
        self, service: Members, ledger: AsyncEngine, given_: dict[str, object], field: str
    ) -> None:
        with pytest.raises(MemberInvalid) as refused:
            await service.put("m-1", "m-1", given_, "boss", None)
        assert refused.value.detail.startswith(field)
        async with ledger.connect() as connection:
            assert await store.read(connection, "m-1") is None

    @pytest.mark.parametrize(("member", "subject"), [("11010519491231002X", "m"), ("m", "11010519491231002x")])
    async def test_an_id_number_is_nobodys_id(self, service: Members, member: str, subject: str) -> None:
        with pytest.raises(MemberInvalid) as refused:
            await service.put(member, subject, {}, "boss", None)
        assert "1949" not in refused.value.detail

    async def test_a_town_is_written_by_its_name_and_tags_once_each(self, service: Members) -> None:
        told = {"town": "大朗镇", "tags": ["b", "a", "b"]}
        assert (await service.put("m-1", "m-1", told, "boss", None)).attributes == {"town": "大朗", "tags": ("a", "b")}

    async def test_the_record_of_acts_holds_a_digest_that_what_is_kept_beside_it_explains(
        self, service: Members, ledger: AsyncEngine
    ) -> None:
        for town in ("大朗", "东坑"):
            member = await service.put("m-1", "person-1", {"town": town}, "boss", None)
        async with ledger.connect() as connection:
            acts = [link.action for link in await actions.chain(connection) if link.action.verb == "put"]
            kept = await store.changes(connection, member.mark or "")
        acts = [act for act in acts if act.object == f"member:{member.mark}"]
        assert [store.digest(row.salt, row.after) for row in kept] == [act.after["digest"] for act in acts]
        assert kept[1].before == kept[0].after == {"subject": "person-1", "attributes": {"town": "大朗"}}
        assert (acts[1].before, acts[0].before) == (acts[0].after, None)
        assert not any(word in str(acts) for word in ("大朗", "person-1", "m-1"))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=predicates(),
    people=st.lists(
        st.tuples(attributes(), st.sampled_from([None, *ORGANISATIONS]), st.sets(st.sampled_from(LISTS))),
        min_size=1, max_size=8,
    ),
)  # fmt: skip
async def test_sql_says_the_same_as_the_predicate(
    service: Members,
    ledger: AsyncEngine,
    where: dict[str, Any],
    people: list[tuple[dict[str, Value], str | None, set[str]]],
) -> None:
    segments = {name: ADAPTER.validate_python(data) for name, data in SEGMENTS.items()}
    under = {root: ORGANISATIONS[ORGANISATIONS.index(root) :] for root in ORGANISATIONS}
    predicate = ADAPTER.validate_python(where)
    wanted = []
    async with ledger.begin() as connection:
        await connection.execute(text("truncate members, list_members"))
        for number, (told, organisation, on) in enumerate(people):
            member_id = f"m-{number}"
            kept = {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}
            row = {"id": member_id, "subject": member_id, "attributes": kept, "organisation": organisation}
            await connection.execute(members.insert().values(row))
            for name in on:
                await connection.execute(list_members.insert().values(list=name, member=member_id))
            path = tuple(reversed(ORGANISATIONS[: ORGANISATIONS.index(organisation) + 1])) if organisation else ()
            if not reasons(predicate, told, TODAY, Known(frozenset(on), path, segments)):
                wanted.append(member_id)
        condition = selection(predicate, TODAY, Named(segments, under))
        found = list(await connection.scalars(select(members.c.id).where(condition).order_by(members.c.id)))
    assert found == wanted
    assert await service.count(predicate, TODAY) == len(wanted)


async def test_values_of_another_kind_from_earlier_versions_are_not_known(
    service: Members, ledger: AsyncEngine
) -> None:
    old = {"town": ["大朗"], "tags": "courier", "new_employment_form": "true", "joined_at": "long ago", "birthday": 5}
    async with ledger.begin() as connection:
        await connection.execute(members.insert().values(id="m-1", subject="m-1", attributes=old))
    for where in (
        {"town": {"in": ["大朗"]}}, {"tags": {"has_any": ["courier"]}}, {"new_employment_form": {"is": True}},
        {"joined_at": {"before": "2100-01-01"}}, {"birthday": {"month": 5}},
    ):  # fmt: skip
        for data in (where, {"not": where}):
            predicate = ADAPTER.validate_python(data)
            assert await service.count(predicate, TODAY) == 0
            (reason,) = await service.reasons("m-1", predicate, date(2025, 1, 1))
            assert reason.value is None
    async with ledger.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(members)) == 1
