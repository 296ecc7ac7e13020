"""What is asked of members and of the names for some of them: by drops at each ticket, and by operators."""

import time
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, ClassVar, NamedTuple

from pydantic import TypeAdapter, ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine import ids
from engine.bounds import FAULTS_TOLD_MAX, KNOWN_MEMBERS_MAX, KNOWN_S, LEDGER_LOCK_TIMEOUT
from engine.errors import Invalid, Refused
from engine.ledger import actions, migrations
from engine.members import groups, store
from engine.members.attributes import Value, WrongValue, checked, nearest
from engine.members.id_number import is_id_number
from engine.members.lookups import Lookups
from engine.members.model import Session
from engine.members.predicate import NOTHING_KNOWN, Eligibility, Known, Predicate, Reason, names_at, reasons
from engine.members.selection import Named
from engine.members.store import Member
from engine.organisations.service import Organisations
from engine.towns import Towns

_PREDICATE: TypeAdapter[Predicate] = TypeAdapter(Eligibility)


class NoSuchMember(Refused):
    code: ClassVar[str] = "no-such-member"


class NoSuchSegment(Refused):
    code: ClassVar[str] = "no-such-segment"


class MemberInvalid(Invalid):
    """What cannot be written down of a member; the fact `errors` lists each field with its problem."""

    code: ClassVar[str] = "member-invalid"


class PredicateInvalid(Invalid):
    """What makes no predicate, or names what there is not; the fact `errors` lists each place with its problem."""

    code: ClassVar[str] = "predicate-invalid"


class _Remembered(NamedTuple):
    until_s: float
    known: Known


class Members:
    """The member service of one process, with a short memory of what the ledger said of each for a drop."""

    def __init__(self, ledger: AsyncEngine, organisations: Organisations, towns: Towns) -> None:
        self._ledger = ledger
        self._organisations = organisations
        self._towns = towns
        self._lookups = Lookups(ledger)
        self._known: dict[tuple[object, ...], _Remembered] = {}
        self._segments: dict[str, tuple[float, Predicate]] = {}

    async def completed(self, session: Session) -> Session:
        """A session that says nothing of its member, with what the ledger says."""
        async with self._ledger.connect() as connection:
            return await store.completed(connection, session)

    async def known(self, session: Session, predicate: Predicate) -> Known:
        """What the ledger says of the session's member, as far as a predicate asks; as it was within the last second.

        Nothing, and without asking, where the member's attributes are enough (`Predicate.asks_ledger`).
        """
        if not predicate.asks_ledger:
            return NOTHING_KNOWN
        of = await self._named_segments(predicate.segments)
        on = predicate.lists.union(*(segment.lists for segment in of.values()))
        key = session.member_id, session.subject, session.attributes.get("organisation"), on, predicate.segments
        found, now_s = self._known.get(key), time.monotonic()
        if found is not None and now_s < found.until_s:
            return found.known
        known = await self._lookups.known(session, on, of)
        if len(self._known) >= KNOWN_MEMBERS_MAX:
            self._known.clear()
        self._known[key] = _Remembered(now_s + KNOWN_S, known)
        return known

    async def reasons(self, member_id: str, predicate: Predicate, today: date) -> list[Reason]:
        """All that speaks against a member, as the ledger knows them: would they get a ticket, and if not, why not."""
        session = await self.completed(Session(member_id, member_id))
        return reasons(predicate, session.attributes, today, await self.known(session, predicate))

    async def read(self, member_id: str, root: str | None) -> Member:
        """A member, for an operator of a root. Raises `NoSuchMember`, `NotYourOrganisation`."""
        async with self._ledger.connect() as connection:
            found = await store.read(connection, ids.member_id(member_id))
        if root is not None:
            await self._organisations.check_own(root, found.organisation if found else None, f"member {member_id!r}")
        if found is None:
            raise NoSuchMember(f"the ledger has no member {member_id!r}: their identity provider may")
        return found

    async def listed(self, after_id: str | None, limit: int, root: str | None) -> list[Member]:
        """A page of the members within a root, of all without one."""
        among = await self._organisations.within(root)
        async with self._ledger.connect() as connection:
            return await store.listed(connection, after_id, limit, among)

    async def put(
        self, member_id: str, subject: str, attributes: Mapping[str, object], actor: str, root: str | None
    ) -> Member:
        """Write a member down, or over what was known. Raises `MemberInvalid`, `NotYourOrganisation`."""
        for text in (member_id, subject):
            if is_id_number(text):
                raise MemberInvalid("this is an ID number, which is kept nowhere: give members ids that are none")
        told = self._checked(attributes)
        organisation = told.get("organisation")
        if isinstance(organisation, str):
            await self._organisations.check_known([organisation], MemberInvalid, "attributes.organisation")
        async with self._ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            if root is not None:
                before = await store.read(connection, member_id)
                for own in [told.get("organisation"), *([before.organisation] if before else [])]:
                    await self._organisations.check_own(
                        root, own if isinstance(own, str) else None, f"member {member_id!r}"
                    )
            return await store.put(connection, member_id, subject, told, actor)

    def _checked(self, attributes: Mapping[str, object]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        faults: list[dict[str, str]] = []
        for name, value in attributes.items():
            if len(faults) == FAULTS_TOLD_MAX:
                break  # each costs a search for the nearest name
            try:
                found[name] = self._town(value) if name == "town" else checked(name, value)
            except WrongValue as error:
                faults.append({"field": f"attributes.{name[:80]}", "problem": str(error)})
        if faults:
            raise MemberInvalid("\n".join(f"{fault['field']}: {fault['problem']}" for fault in faults), errors=faults)
        return found

    def _town(self, value: object) -> str:
        text = str(checked("town", value))
        town = self._towns.named(text)
        if town is None:
            raise WrongValue(f"no such town{nearest(text, self._towns.zh())}")
        return town.zh

    async def check_named(self, predicate: Predicate, error: type[Invalid], field: str) -> None:
        """Raise an error of a class where a predicate names a list, a segment or an organisation that there is not."""
        async with self._ledger.connect() as connection:
            lists = await groups.list_names(connection) if predicate.lists else []
            segments = list(await groups.segments_listed(connection)) if predicate.segments else []
        for kind, asked, there in (("list", predicate.lists, lists), ("segment", predicate.segments, segments)):
            for name in sorted(asked - set(there)):
                problem = f"no such {kind} {name!r}{nearest(name, there)}"
                raise error(f"{field}: {problem}", errors=[{"field": field, "problem": problem}])
        if predicate.organisations:
            await self._organisations.check_known(sorted(predicate.organisations), error, field)

    async def lists(self) -> list[groups.ListFigures]:
        async with self._ledger.connect() as connection:
            return await groups.lists_listed(connection)

    async def segments(self) -> dict[str, Predicate]:
        async with self._ledger.connect() as connection:
            return await groups.segments_listed(connection)

    async def segment(self, name: str, today: date) -> tuple[Predicate, int]:
        """A segment, and how many members it holds for on a day. Raises `NoSuchSegment`."""
        async with self._ledger.connect() as connection:
            named = await groups.named_segments(connection, [name]) if ids.is_name(name) else {}
        if name not in named:
            raise NoSuchSegment(f"there is no segment {name[:80]!r}")
        return named[name], await self.count(named[name], today)

    async def count(self, predicate: Predicate, today: date) -> int:
        """How many members that the ledger knows a predicate holds for on a day: a look at every row."""
        named = await self.named(predicate)
        async with self._ledger.connect() as connection:
            return await groups.count(connection, predicate, today, named)

    async def named(self, *predicates: Predicate) -> Named:
        """What the names in some predicates stand for, to select members by them."""
        of = await self._named_segments(frozenset().union(*(predicate.segments for predicate in predicates)))
        roots = {root for predicate in (*predicates, *of.values()) for root in predicate.organisations}
        return Named(of, {root: await self._organisations.within(root) or [] for root in roots})

    async def save_segment(self, name: str, data: object, actor: str) -> Predicate:
        """Keep a predicate under a name; drops that name it go by it within a second. Raises `PredicateInvalid`."""
        predicate = parsed(data, "where")
        if predicate.segments:
            raise _invalid([("where", "names a segment: write out what that says")])
        if predicate.is_empty:
            raise _invalid([("where", "says nothing: give at least one condition")])
        await self.check_named(predicate, PredicateInvalid, "where")
        async with self._ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            before = (await groups.named_segments(connection, [name])).get(name)
            await groups.put_segment(connection, name, predicate)
            await _record_segment(connection, name, before, predicate, actor)
        return predicate

    async def _named_segments(self, names: frozenset[str]) -> dict[str, Predicate]:
        """Segments by their names, as they were within the last second."""
        if not names:
            return {}
        now_s = time.monotonic()
        if any(name not in self._segments or now_s >= self._segments[name][0] for name in names):
            async with self._ledger.connect() as connection:
                found = await groups.named_segments(connection, names)
            self._segments |= {name: (now_s + KNOWN_S, predicate) for name, predicate in found.items()}
        # A segment is never taken away; without it nobody could be judged.
        return {name: self._segments[name][1] for name in names}


def parsed(data: object, source: str) -> Predicate:
    """The predicate that decoded YAML or JSON is. Raises `PredicateInvalid` with every fault."""
    try:
        return _PREDICATE.validate_python(data)
    except ValidationError as error:
        raise _invalid([_fault(source, detail) for detail in error.errors()[:FAULTS_TOLD_MAX]]) from None


def _fault(source: str, detail: Any) -> tuple[str, str]:
    place = ".".join([source, *(str(part)[:80] for part in detail["loc"])])
    if detail["type"] == "extra_forbidden":
        return place, f"unknown name{nearest(str(detail['loc'][-1]), names_at(detail['loc'][:-1]))}"
    return place, f"{detail['msg'][0].lower()}{detail['msg'][1:]}"


def _invalid(faults: Sequence[tuple[str, str]]) -> PredicateInvalid:
    return PredicateInvalid(
        "\n".join(f"{place}: {problem}" for place, problem in faults),
        errors=[{"field": place, "problem": problem} for place, problem in faults],
    )


async def _record_segment(
    connection: AsyncConnection, name: str, before: Predicate | None, after: Predicate, actor: str
) -> None:
    told = after.model_dump(mode="json")
    await actions.record(
        connection,
        f"segment:{name}",
        "save",
        actor,
        change={"where": told},
        before=None if before is None else {"where": before.model_dump(mode="json")},
        after={"where": told},
    )
