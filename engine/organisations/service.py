"""What operators do to the tree of organisations, and what lies within whose."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine import ids
from engine.bounds import LEDGER_LOCK_TIMEOUT
from engine.errors import Invalid
from engine.ledger import actions, migrations
from engine.members.attributes import nearest
from engine.organisations import store
from engine.organisations.model import (
    NoSuchOrganisation,
    NotYourOrganisation,
    Organisation,
    invalid,
    path,
    tree_faults,
)

_RECORDED_MAX = 1_000  # organisations of one import whose before and after stand in the record of acts


class Imported(NamedTuple):
    """What an import changes, or has changed."""

    given: int
    new: int
    changed: int


class Organisations:
    """The organisation service of one process."""

    def __init__(self, ledger: AsyncEngine) -> None:
        self._ledger = ledger

    async def read(self, organisation: str) -> Organisation:
        """Raises `NoSuchOrganisation`."""
        async with self._ledger.connect() as connection:
            found = await store.read(connection, [organisation]) if ids.is_name(organisation) else {}
        if not found:
            raise NoSuchOrganisation(f"there is no organisation {organisation[:80]!r}")
        return found[organisation]

    async def ids(self) -> set[str]:
        """The ids of all organisations."""
        async with self._ledger.connect() as connection:
            return set(await store.parents(connection))

    async def listed(self, after_id: str | None, limit: int, root: str | None) -> list[Organisation]:
        """A page of those within a root, of all without one."""
        among = await self.within(root)
        async with self._ledger.connect() as connection:
            return await store.listed(connection, after_id, limit, among)

    async def within(self, root: str | None) -> list[str] | None:
        """The ids of a root and of all under it; None, for all there are, without a root."""
        if root is None:
            return None
        async with self._ledger.connect() as connection:
            return await store.under(connection, root)

    async def covers(self, root: str | None, organisation: str | None) -> bool:
        """Whether an organisation is a root or under it; without a root each is, also one that is not known."""
        if root is None or root == organisation:
            return True
        if organisation is None:
            return False
        async with self._ledger.connect() as connection:
            return root in await store.path(connection, organisation)

    async def check_own(self, root: str | None, organisation: str | None, what: str) -> None:
        """Raise `NotYourOrganisation` unless an operator of a root may act on what is an organisation's."""
        if not await self.covers(root, organisation):
            raise not_yours(root, what)

    async def check_known(self, names: Sequence[str], error: type[Invalid], field: str) -> None:
        """Raise an error of a class for a name that no organisation has; while there is no tree each will do."""
        async with self._ledger.connect() as connection:
            known = await store.read(connection, names)
            if len(known) == len(set(names)):
                return
            tree = await store.parents(connection)
        for name in names:
            if tree and name not in tree:
                problem = f"no such organisation{nearest(name, list(tree))}"
                raise error(f"{field}: {problem}", errors=[{"field": field, "problem": problem}])

    async def put(self, given: Organisation, actor: str, root: str | None) -> Organisation:
        """Write one down, or write over what was known of it. Raises `OrganisationInvalid`, `NotYourOrganisation`."""
        async with self._ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            await store.hold(connection)
            known = await store.parents(connection)
            if root is not None:
                self._check_under(root, given, known)
            if faults := tree_faults([("organisation", given)], known):
                raise invalid("body", faults)
            before = (await store.read(connection, [given.id])).get(given.id)
            await store.put(connection, [given])
            await actions.record(
                connection,
                f"organisation:{given.id}",
                "put",
                actor,
                change=given.shown(),
                before=before.shown() if before else None,
                after=given.shown(),
            )
        return given

    def _check_under(self, root: str, given: Organisation, known: Mapping[str, str | None]) -> None:
        """One that is bounded by a root makes and changes what is under it: not itself, and nobody else's."""
        above = path(given.parent, known) if given.parent else []
        is_own = given.id not in known or root in path(given.id, known)[1:]
        if root not in above or not is_own:
            raise not_yours(root, f"organisation {given.id!r} under {given.parent!r}")

    async def bring_in(
        self, given: Sequence[tuple[str, Organisation]], source: Mapping[str, Any], actor: str, *, dry_run: bool = False
    ) -> Imported:
        """Write those of a file down, all or none; those that are not in it stay. `source` says which file it was.

        Raises `OrganisationInvalid` with every fault.
        """
        async with self._ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            await store.hold(connection)
            known = await store.parents(connection)
            if faults := tree_faults(given, known):
                raise invalid(str(source.get("file", "file")), faults)
            before = await store.read(connection, [found.id for _, found in given])
            changed = [found for _, found in given if before.get(found.id) != found]
            parents = {**known, **{found.id: found.parent for _, found in given}}
            changed.sort(key=lambda found: len(path(found.id, parents)))
            done = Imported(len(given), sum(found.id not in before for found in changed), len(changed))
            done = done._replace(changed=done.changed - done.new)
            if changed and not dry_run:
                await store.put(connection, changed)
                await _record(connection, changed, before, {**source, **done._asdict()}, actor)
        return done


def not_yours(root: str | None, what: str) -> NotYourOrganisation:
    """The same for what is another's and for what does not exist."""
    return NotYourOrganisation(
        f"organisation {root!r} has no {what}, nor has one under it: ask the city's operators",
        organisation=root,
    )


async def _record(
    connection: AsyncConnection,
    changed: Sequence[Organisation],
    before: Mapping[str, Organisation],
    change: Mapping[str, Any],
    actor: str,
) -> None:
    told = changed[:_RECORDED_MAX]
    await actions.record(
        connection,
        "organisations:tree",
        "import",
        actor,
        change={**change, "told": len(told)},
        before={found.id: before[found.id].shown() for found in told if found.id in before},
        after={found.id: found.shown() for found in told},
    )
