"""The members and the operators of a run: they press, press again, give up, forge, and keep what they were told."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.claims import receipt
from engine.claims.model import Claim, NotOpen, Paused, SoldOut
from engine.claims.service import AlreadyReleased
from engine.claims.ticket import TicketInvalid
from engine.drops.model import Actor, StaleRevision
from engine.errors import FlashclaimError, Invalid, Refused, Unavailable
from engine.ids import ClaimId
from engine.ledger import client_log
from engine.ledger.facts import Fact
from loadtests.workload import Person
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Broken, Network
from tests.simulation.parts import SETTINGS, Api

DROP_ID = "rush"
ANSWERED_S_MAX = 15.0  # a call to the store ends after 5 s, one to the ledger too; a batch waits for two of them
TRIES_MAX = 400


class Scene(Protocol):
    """What people see of the run."""

    loop: SimulatedLoop
    chance: random.Random
    network: Network
    apis: list[Api]
    quiet: list[Api]

    def breaks(self, check: str, detail: str) -> None: ...

    def say(self, text: str) -> None: ...


@dataclass
class Told:
    """What members were told, as they can prove it."""

    facts: list[Fact] = field(default_factory=list)
    receipts: dict[ClaimId, receipt.ReceiptBody] = field(default_factory=dict)
    released: set[ClaimId] = field(default_factory=set)
    pressed: int = 0
    open_tickets: dict[str, tuple[str, str]] = field(default_factory=dict)  # ticket → member, item: no final answer yet


async def reach(scene: Scene, do: Callable[[Api], Any]) -> Any:
    """Ask any API process; raises `Broken` when no answer comes, and says so when it must have come."""
    asked = [api for api in scene.apis if api not in scene.quiet]
    api = scene.chance.choice(asked or scene.apis)
    network = scene.network
    await asyncio.sleep(network.delay_s())
    if not api.process.is_alive or scene.chance.random() < network.weather.broken:
        raise Broken("no answer")
    process = api.process
    task = process.spawn(do(api))
    task.add_done_callback(_heard)
    done, _ = await asyncio.wait({task}, timeout=ANSWERED_S_MAX)
    if not done:
        scene.breaks("every waiter is answered", f"{api.name} has said nothing for {ANSWERED_S_MAX} s")
        raise Broken("no answer")
    await asyncio.sleep(network.delay_s())
    if task.cancelled() or not process.is_alive:
        raise Broken("the process died")
    if scene.chance.random() < network.weather.broken:
        raise Broken("the answer was lost")
    return task.result()


def _heard(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()  # whoever asked may have gone away


class Member:
    """One person of the workload, with a few tickets."""

    def __init__(self, scene: Scene, person: Person, told: Told) -> None:
        self._scene = scene
        self._person = person
        self._told = told
        self.member_id = person.member_id

    async def live(self) -> None:
        person, chance = self._person, self._scene.chance
        await asyncio.sleep(chance.random() * (0.3 if person.is_early else 3.0))
        for _ in range(2 + person.is_greedy):
            ticket = await self._ticket()
            if ticket is None:
                return
            if person.is_forger or chance.random() < 0.05:
                await self._forge(ticket)
            presses = [self.press(ticket, 6) for _ in range(person.presses)]
            if chance.random() < 0.5:
                await asyncio.gather(*presses)
            else:
                for press in presses:
                    await press
                    await asyncio.sleep(chance.random() * 0.2)
            if not person.is_greedy and chance.random() < 0.6:
                return

    async def _ticket(self) -> str | None:
        person, chance = self._person, self._scene.chance
        item = person.item if chance.random() < 0.8 else None
        quantity = chance.choice((None, 1, 1, 2))
        for _ in range(TRIES_MAX):
            try:
                issued = await reach(self._scene, lambda api: api.ticket(DROP_ID, person.member_id, item, quantity))
            except (Broken, Unavailable, NotOpen):
                await asyncio.sleep(0.2)
                continue
            except Refused:
                return None
            return str(issued.ticket)
        return None

    async def _forge(self, ticket: str) -> None:
        at = self._scene.chance.randrange(len(ticket))
        forged = ticket[:at] + ("A" if ticket[at] != "A" else "B") + ticket[at + 1 :]
        try:
            answer = await reach(self._scene, lambda api: api.claim(DROP_ID, forged, None))
        except Broken:
            return
        if not isinstance(answer, TicketInvalid | Unavailable):
            self._scene.breaks("a forged ticket is refused", f"{answer!r}")

    async def press(self, ticket: str, tries: int, *, is_last: bool = False) -> None:
        """Press until there is an answer that is final, or patience ends."""
        told, person = self._told, self._person
        told.open_tickets.setdefault(ticket, (person.member_id, person.item))
        for _ in range(tries):
            told.pressed += 1
            try:
                answer = await reach(self._scene, lambda api: api.claim(DROP_ID, ticket, person.item))
            except Broken:
                await asyncio.sleep(0.05 + self._scene.chance.random() * 0.3)
                continue
            if self._is_final(answer, ticket, is_last=is_last):
                told.open_tickets.pop(ticket, None)
                return
            await asyncio.sleep(0.05 + self._scene.chance.random() * 0.4)

    def _is_final(self, answer: Claim | FlashclaimError, ticket: str, *, is_last: bool) -> bool:
        if isinstance(answer, Claim):
            self._hear(answer, ticket)
            return True
        if isinstance(answer, TicketInvalid):
            self._scene.breaks("a good ticket is taken", f"{answer!r}")
        if isinstance(answer, NotOpen | Paused) or (isinstance(answer, SoldOut) and self._person.is_patient):
            return is_last
        return isinstance(answer, Refused | Invalid)

    def _hear(self, claim: Claim, ticket: str) -> None:
        """The receipt proves what was said, and both are about this very ticket."""
        body = receipt.verify(SETTINGS.receipt_keyring, claim.receipt)
        request = body.request
        said = (claim.claim_id, claim.quantity, claim.at_ms, f"item-{request.item}")
        if said != (body.claim_id, request.quantity, body.at_ms, claim.item):
            self._scene.breaks("a receipt says what was said", f"{claim} with {body}")
        fact = client_log.fact(body.claim_id, request, body.at_ms)
        if request.member != self._person.member_id:
            self._scene.breaks("an answer goes to who asked", f"{request.member} instead of {self._person.member_id}")
        self._told.facts.append(fact)
        self._told.receipts[body.claim_id] = body
        self._scene.say(
            f"told {self._person.member_id} {claim.claim_id}{' again' if claim.repeated else ''} {ticket[-6:]}"
        )


class Operator:
    """Acts on the drop through whatever API process answers; an act without an answer may be sent again."""

    def __init__(self, scene: Scene, told: Told) -> None:
        self._scene = scene
        self._told = told

    async def act(self, what: str, tries: int = 1) -> bool:
        """Whether it was done; a refusal is an answer too."""
        key = f"{what}-{self._scene.chance.randbytes(4).hex()}"
        for _ in range(tries):
            try:
                await reach(self._scene, lambda api: self._do(api, what, Actor("boss", key)))
            except (Unavailable, StaleRevision, OSError) as error:
                self._scene.say(f"operator {what}: {error!r}"[:200])
                await asyncio.sleep(0.3)
                continue
            except (Refused, Invalid) as error:
                self._scene.say(f"operator {what}: {error!r}"[:200])
                return False
            self._scene.say(f"operator {what}: done")
            return True
        return False

    async def _do(self, api: Api, what: str, actor: Actor) -> None:
        chance = self._scene.chance
        match what:
            case "pause":
                await api.drops.pause(DROP_ID, actor)
            case "resume":
                await api.drops.resume(DROP_ID, actor)
            case "close":
                await api.drops.close(DROP_ID, actor)
            case "launch":
                await api.drops.launch(DROP_ID, actor)
            case "restock":
                await api.drops.restock(DROP_ID, "item-1", 2, actor)
            case "amend":
                await api.drops.amend(DROP_ID, {"limit_per_member": chance.choice((1, 2, 3))}, None, actor)
            case "release":
                await self._release(api)

    async def _release(self, api: Api) -> None:
        if not self._told.facts:
            return
        claim_id = self._scene.chance.choice(self._told.facts).claim_id
        try:
            await api.claims.release(claim_id, "boss", "not collected")
        except AlreadyReleased:
            return
        if claim_id in self._told.released:
            self._scene.breaks("released gives back once", f"{claim_id} was given back again")
        self._told.released.add(claim_id)
