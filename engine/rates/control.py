"""Who may claim, or take a ticket, now: deny lists, then rates, from what is known at once to what is proved."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from engine.bounds import HELD_MAX, HELD_S
from engine.claims import keys
from engine.errors import Invalid
from engine.rates.address import Address
from engine.rates.address import address as address_of
from engine.rates.buckets import Buckets
from engine.rates.denied import DenyList
from engine.rates.model import Bucket, Rate
from engine.rates.shared import SharedBuckets
from engine.runtime.settings import Settings

_T = TypeVar("_T")
CLIENT_KEY_CHARS_MAX = 64
_CLIENT_KEY_SIGNS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@-")


class ClientKeyInvalid(Invalid):
    """An `X-Client-Key` that cannot be one; keys are not secret, and one that nobody knows is counted as given."""


class Rates:
    """The buckets of one kind of request in one process; `what` names the kind, in refusals and in the shared store.

    Each kind has buckets of its own, at the same rates: whoever floods us for tickets takes no claim from anybody.
    """

    def __init__(self, what: str, settings: Settings) -> None:
        self._what = what
        self.members = Buckets(Rate("member", what, settings.member_claims_per_second, settings.member_claims_burst))
        self.addresses = Buckets(
            Rate("address", what, settings.address_claims_per_second, settings.address_claims_burst)
        )
        self.clients = Buckets(
            Rate("client key", what, settings.client_claims_per_second, settings.client_claims_burst)
        )

    def arrive(self, address: Address, client_key: bytes | None) -> None:
        """Count what is known of a request before anything in it is proved; raises `SlowDown`, `ClientKeyInvalid`."""
        self.addresses.spend(address.bucket)
        if self.clients.is_on and client_key is not None:
            if not 1 <= len(client_key) <= CLIENT_KEY_CHARS_MAX or not _CLIENT_KEY_SIGNS.issuperset(client_key):
                raise ClientKeyInvalid(
                    f"X-Client-Key: use letters, digits and . _ : @ -, at most {CLIENT_KEY_CHARS_MAX} characters",
                    field="X-Client-Key",
                )
            self.clients.spend(client_key)

    def wanted(self, address: str, client_key: bytes | None, member: bytes) -> list[Bucket]:
        """The shared buckets of a request that the process itself has let pass, in the same order."""
        found: list[Bucket] = []
        if self.addresses.is_on:
            found.append(Bucket(keys.bucket(self._what, "address", address_of(address).bucket), self.addresses.rate))
        if self.clients.is_on and client_key is not None:
            found.append(Bucket(keys.bucket(self._what, "client", client_key.decode()), self.clients.rate))
        if self.members.is_on:
            found.append(Bucket(keys.bucket(self._what, "member", member.decode()), self.members.rate))
        return found


class RushControl:
    """The rates and the deny list of one process; `shared` has the same rates over all processes, where it is set."""

    def __init__(self, settings: Settings, denied: DenyList, shared: SharedBuckets | None = None) -> None:
        self.claims = Rates("claims", settings)
        self.tickets = Rates("tickets", settings)
        self.invalid_tickets = Buckets(
            Rate("address", "invalid tickets", settings.invalid_tickets_per_second, settings.invalid_tickets_burst)
        )
        self.shared = shared
        self._held = 0
        self.use(denied)

    def use(self, denied: DenyList) -> None:
        """Take another deny list."""
        self.denied = denied
        # Read at each claim: whether address and client key are looked at before the ticket is.
        self.is_watching = bool(denied.networks) or self.claims.addresses.is_on or self.claims.clients.is_on
        # Whom a ticket proves; raises `Denied`, `SlowDown`.
        self.check_member: Callable[[bytes], None] = self._check_member if denied.members else self.claims.members.spend

    def check_arrival(self, address: str, client_key: bytes | None) -> None:
        """Before a claim's ticket is looked at; raises `Denied`, `SlowDown`, `ClientKeyInvalid`."""
        self._arrive(self.claims, address, client_key)

    def count_invalid_ticket(self, address: str) -> None:
        """After a ticket that was refused; raises `SlowDown` when too many come from its address."""
        self.invalid_tickets.spend(address_of(address).bucket)

    def check_asker(self, address: str, client_key: bytes | None, member: bytes) -> None:
        """Who asks for a ticket, before it is made; raises `Denied`, `SlowDown`, `ClientKeyInvalid`."""
        if self.is_watching:
            self._arrive(self.tickets, address, client_key)
        self.denied.check_member(member)
        self.tickets.members.spend(member)

    def tell_late(self, tell: Callable[[_T], None], told: _T) -> None:
        """Call `tell` when a refusal for a rate may be told.

        A program that sends its next request when it has its answer is slowed by this, whatever `Retry-After` means to
        it; a person does not notice. Past the bound it is told at once.
        """
        if self._held >= HELD_MAX:
            tell(told)
            return
        self._held += 1
        asyncio.get_running_loop().call_later(HELD_S, self._tell, tell, told)

    async def wait_to_tell(self) -> None:
        """`tell_late` for those who wait."""
        waited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tell_late(lambda _: None if waited.done() else waited.set_result(None), None)
        await waited

    def _tell(self, tell: Callable[[_T], None], told: _T) -> None:
        self._held -= 1
        tell(told)

    def _arrive(self, rates: Rates, address: str, client_key: bytes | None) -> None:
        found = address_of(address)
        self.denied.check_address(found)
        rates.arrive(found, client_key)

    def _check_member(self, member: bytes) -> None:
        self.denied.check_member(member)
        self.claims.members.spend(member)
