"""A list that the member must be on. The list is the ledger's, so it is looked at when the pass is fetched.

Whoever is taken off the list can use their pass for its last minutes (`PASS_S`), and a ticket as long as it lasts.
"""

from collections.abc import Mapping
from typing import ClassVar, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.drops.model import Drop
from engine.errors import Refused
from engine.gates.model import Case, Given, Passed, check_pass
from engine.members.model import Session


class Lists(Protocol):
    """The lists of members, as their own room keeps them."""

    async def holds(self, connection: AsyncConnection, list_name: str, session: Session) -> bool:
        """Whether a member is on a list, by their id or as the person; False for a list that does not exist."""
        ...


class NoLists:
    """Stands for the lists until there are any: nobody is on one."""

    async def holds(self, connection: AsyncConnection, list_name: str, session: Session) -> bool:
        return False


class ListPassRequired(Refused):
    """The request brings no pass of the list gate; the facts say where to fetch it."""

    code: ClassVar[str] = "list-pass-required"


class NotOnList(Refused):
    code: ClassVar[str] = "not-on-list"


class ListGate:
    """The gate of drops with `list: NAME`; members are not told the name, which may say why they are on it."""

    name: ClassVar[str] = "list"

    def stands(self, drop: Drop) -> bool:
        return drop.spec.gates.list_ is not None

    def asks(self, case: Case) -> Mapping[str, object]:
        return {"gate": self.name, "route": f"POST /v1/drops/{case.drop.id}/list"}

    def check(self, case: Case, given: Given, passed: Passed) -> Passed:
        asked = self.asks(case)
        if given.list is None:
            raise ListPassRequired(f"list: fetch your pass by {asked['route']}, and send it", **asked)
        check_pass(case, given.list, self.name, str(case.drop.spec.gates.list_))
        return passed
