"""A rush that meets a fault: members, a trickle of latecomers, and an operator; all that they were told is kept.

Members send the same ticket again after no answer and after 503, until they know. The latecomers ask for an item of
which there is enough, one every tenth of a second until the round is over: they show when claims are accepted again.
"""

import asyncio
import random
import secrets
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from engine.bounds import LEDGER_ANSWER_S_MAX, QUEUE_WAIT_S_MAX, STORE_TIMEOUT_S
from engine.members.model import Session
from engine.members.session import SessionTokens
from loadtests.workload import Person, people
from tests.factories.drops import drop_json
from tests.faults.client import Answer, Client
from tests.faults.patience import until
from tests.faults.stack import TOKEN_S, Running

MEMBERS, STOCK, LATE_STOCK, RESTOCKED, RELEASES = 400, 300, 9_000, 20, 3
ARRIVE_S = 3.0
AT_ONCE = 64
TOLD_S_MAX = 60.0
LATE_EVERY_S = 0.1
AGAIN_S = 0.2  # until the same request is sent again
# The longest way of a claim: it waits in the queue, then for a connection to the store, then for the store's answer.
CLAIM_S_MAX = QUEUE_WAIT_S_MAX + 2 * STORE_TIMEOUT_S
# An operator's act asks the ledger too: it connects, waits for a statement, and lets go of it.
ACT_S_MAX = 2 * LEDGER_ANSWER_S_MAX + 3 * STORE_TIMEOUT_S
SLACK_S = 1.0  # two busy cores, shared by servers and members
_ACTS = {"create", "launch", "pause", "resume", "restock", "release"}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request: when it was sent and answered (seconds since 1970), and what came; status 0 is no answer."""

    what: str
    sent_s: float
    answered_s: float
    status: int
    code: str = ""


@dataclass(slots=True)
class Told:
    """All that was told to anybody in a round."""

    claims: list[dict[str, Any]] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    released: set[str] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)  # tickets, sessions, receipts: none may be in a log
    wrong: list[str] = field(default_factory=list)  # answers that nothing explains

    def accepted(self, from_s: float, until_s: float = float("inf")) -> list[Exchange]:
        """New claims whose requests were sent in a span of time."""
        return [found for found in self.exchanges if found.status == 201 and from_s <= found.sent_s < until_s]

    def codes(self) -> Counter[str]:
        return Counter(found.code for found in self.exchanges if found.code)


class Rush:
    """A drop and all who come to it. `may_refuse` names refusals that the round's fault explains."""

    def __init__(self, stack: Running, drop_id: str, seed: int) -> None:
        self.drop_id = drop_id
        self.told = Told()
        self.late_told = 0
        self.may_refuse: set[str] = set()
        self.frozen_s = 0.0  # how long the API itself may have stood still
        self._chance = random.Random(seed)
        self._crowd = list(people(seed, MEMBERS, ["box"], [1]))
        self._seed = seed
        self._tokens = SessionTokens(stack.settings)
        self._operator = stack.operator_token()
        self._is_over = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._client = Client(stack.port, ACT_S_MAX + 10)
        self.told.secrets.add(self._operator)

    async def prepare(self) -> None:
        """Create and launch the drop. It opened two hours ago, so that a clock may jump within its window."""
        opens_at = datetime.now(UTC) - timedelta(hours=2)
        items = [
            {"id": "box", "title": {"en": "Box"}, "stock": STOCK},
            {"id": "late", "title": {"en": "Late"}, "stock": LATE_STOCK},
        ]
        closes_at = (opens_at + timedelta(hours=6)).isoformat()
        await self._act("create", "/v1/drops", drop_json(self.drop_id, opens_at, items=items, closes_at=closes_at))
        await self._act("launch", f"/v1/drops/{self.drop_id}/launch")

    async def run(self) -> None:
        """Live the rush until everybody knows what they got and `end` was called."""
        async with asyncio.TaskGroup() as group:
            for person in self._crowd:
                group.create_task(self._live(person, self._chance.random() * ARRIVE_S))
            number = 0
            while not self._is_over.is_set():
                group.create_task(self._come_late(f"late-{self._seed}-{number}"))
                number += 1
                await _pause(self._is_over, LATE_EVERY_S)

    def end(self) -> None:
        """Nobody comes any more."""
        self._is_over.set()

    def close(self) -> None:
        self._client.close()

    async def until_told(self, claims: int) -> None:
        """Wait until so many claims on boxes were told."""
        await until(
            lambda: len(self.told.claims) - self.late_told >= claims, TOLD_S_MAX, f"{claims} claims told", 0.005
        )

    async def operate(self, pause_at: asyncio.Event) -> None:
        """What an operator does meanwhile: gives back, restocks, pauses and resumes; the pause comes at its event."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pause(pause_at))
            group.create_task(self._restock())
            for _ in range(RELEASES):
                group.create_task(self._release())

    async def _pause(self, at: asyncio.Event) -> None:
        await at.wait()
        await asyncio.sleep(self._chance.random() * 0.3)
        await self._act("pause", f"/v1/drops/{self.drop_id}/pause")
        await asyncio.sleep(self._chance.random() * 0.2)
        await self._act("resume", f"/v1/drops/{self.drop_id}/resume")

    async def resume(self) -> None:
        """Let the drop go on that a rebuild has left paused."""
        await self._act("resume", f"/v1/drops/{self.drop_id}/resume")

    async def _restock(self) -> None:
        await asyncio.sleep(self._chance.random() * ARRIVE_S)
        await self._act("restock", f"/v1/drops/{self.drop_id}/restock", {"item": "box", "quantity": RESTOCKED})

    async def _release(self) -> None:
        """Give back a claim that somebody was told of, once it is in the ledger."""
        await self.until_told(STOCK // 20)
        await asyncio.sleep(self._chance.random() * ARRIVE_S)
        open_ = {claim["claim_id"] for claim in self.told.claims if claim["item"] == "box"} - self.told.released
        claim_id = self._chance.choice(sorted(open_))
        self.told.released.add(claim_id)
        await self._act("release", f"/v1/claims/{claim_id}/release")

    async def _live(self, person: Person, arrives_s: float) -> None:
        await asyncio.sleep(arrives_s)
        async with self._places:
            for _ in range(2 if person.is_greedy else 1):
                ticket = await self._ticket(person.member_id, "box")
                if person.is_forger:
                    await self._forge(ticket)
                for _ in range(person.presses):
                    claim = await self._press(person.member_id, "box", ticket)
                    if claim is not None and person.checks_receipt:
                        await self._check_receipt(claim)

    async def _come_late(self, member_id: str) -> None:
        claim = await self._press(member_id, "late", await self._ticket(member_id, "late"))
        self.late_told += 1
        if claim is None:
            self.told.wrong.append(f"{member_id} got nothing, though there is enough")

    async def _ticket(self, member_id: str, item: str) -> str:
        bearer = self._tokens.issue(Session(member_id, member_id), TOKEN_S)
        self.told.secrets.add(bearer)
        headers = {"Authorization": f"Bearer {bearer}"}
        while True:
            answer = await self._final("ticket", f"/v1/drops/{self.drop_id}/ticket", headers, {"item": item})
            if answer.status == 200:
                ticket: str = answer.said["ticket"]
                self.told.secrets.add(ticket)
                return ticket
            self._explain("ticket", answer)
            await asyncio.sleep(AGAIN_S)

    async def _press(self, member_id: str, item: str, ticket: str) -> dict[str, Any] | None:
        """Claim until the answer is final; the claim, or None when it was refused for good."""
        while True:
            headers = {"Authorization": f"Ticket {ticket}"}
            answer = await self._final("claim", f"/v1/drops/{self.drop_id}/claims", headers)
            if answer.status in (200, 201):
                self.told.claims.append({"status": answer.status, **answer.said})
                self.told.secrets.add(answer.said["receipt"])
                return answer.said
            if answer.code in ("sold-out", "limit-reached", "claim-released"):
                return None
            if answer.code == "ticket-expired" and "ticket-expired" in self.may_refuse:
                ticket = await self._ticket(member_id, item)
            elif answer.code not in ("paused", "slow-down"):
                self._explain("claim", answer)
            await asyncio.sleep(AGAIN_S)

    async def _forge(self, ticket: str) -> None:
        forged = ticket[:-2] + ("AA" if ticket[-2:] != "AA" else "BA")
        answer = await self._final("claim", f"/v1/drops/{self.drop_id}/claims", {"Authorization": f"Ticket {forged}"})
        if answer.status != 401:
            self.told.wrong.append(f"a forged ticket was answered {answer}")

    async def _check_receipt(self, claim: dict[str, Any]) -> None:
        answer = await self._final("receipt", "/v1/receipts/verify", {}, {"receipt": claim["receipt"]})
        if answer.status != 200 or answer.said["claim_id"] != claim["claim_id"]:
            self.told.wrong.append(f"the receipt of {claim['claim_id']} was answered {answer}")

    async def _act(self, what: str, path: str, body: Any = None) -> None:
        """An operator's act, sent again under its key until it is done."""
        headers = {"Authorization": f"Bearer {self._operator}", "Idempotency-Key": secrets.token_hex(8)}
        while True:
            answer = await self._final(what, path, headers, body)
            is_done = answer.status in (200, 201)
            # A release has no key: after an answer that was lost it says that it was done before.
            if is_done or (what == "release" and answer.code == "already-released"):
                return
            if not (what == "release" and answer.code == "no-such-claim"):  # not in the ledger yet
                self._explain(what, answer)
            await asyncio.sleep(AGAIN_S)

    def _explain(self, what: str, answer: Answer) -> None:
        assert answer.code in self.may_refuse, f"a {what} was answered {answer}"

    async def _final(self, what: str, path: str, headers: dict[str, str], body: Any = None) -> Answer:
        """An answer other than 503: after that, and after none, the same request is sent again."""
        while True:
            answer = await self._sent(what, path, headers, body)
            if answer is not None and answer.status != 503:
                return answer
            await asyncio.sleep(AGAIN_S)

    async def _sent(self, what: str, path: str, headers: dict[str, str], body: Any) -> Answer | None:
        sent_s = time.time()
        answer: Answer | None = None
        with suppress(OSError):  # killed, cut off, or refused: what counts is how long it took to know
            answer = await self._client.post(path, headers, body)
        status, code = (0, "") if answer is None else (answer.status, answer.code)
        found = Exchange(what, sent_s, time.time(), status, code)
        self.told.exchanges.append(found)
        bound_s = (ACT_S_MAX if what in _ACTS else CLAIM_S_MAX) + self.frozen_s + SLACK_S
        if found.answered_s - sent_s > bound_s:
            self.told.wrong.append(f"a {what} waited {found.answered_s - sent_s:.1f} s, stated are {bound_s:.1f} s")
        return answer


async def _pause(over: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(over.wait(), seconds)
    except TimeoutError:
        return
