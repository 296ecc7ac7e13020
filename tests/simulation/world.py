"""One run: a world made from a seed, its faults, its healing, and what is found in the end."""

import asyncio
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from engine.drops.model import Actor, DuplicateDrop, from_ms
from engine.drops.spec import DropSpec
from engine.errors import FlashclaimError, Unavailable
from engine.ledger.plan import RebuildRefused
from engine.ledger.rebuild import Rebuild
from loadtests.workload import people
from tests.simulation import checks, faults
from tests.simulation.judge import Judge
from tests.simulation.ledger import Ledger
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Network, Process, Weather
from tests.simulation.parts import Api, Site, Worker
from tests.simulation.people import DROP_ID, Member, Operator, Told, reach
from tests.simulation.plan import ACTIVE_S, Kind, Plan, draw, outlived
from tests.simulation.seams import Log, swapped
from tests.simulation.store import Store

BEGAN_MS = 1_750_000_000_000
TRACE_LINES = 200
OUTLIVED_EVERY = 4  # failovers: whose primary lives on
HEALED_S_MAX = 60.0
ROUNDS_S = 3.2  # six rounds of the reconciler: one to come around, two to be sure, and again for what hid behind it


@dataclass
class Outcome:
    """What a run came to; `digest` is over its whole trace."""

    seed: int
    kind: str
    broken: list[str]
    trace: list[str]
    digest: str
    figures: dict[str, int]


class World:
    """The scene of one seed."""

    def __init__(self, seed: int, plan: Plan | None = None, *, keeps_all: bool = False) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.plan = draw(self.chance) if plan is None else plan
        if plan is None and self.plan.kind is Kind.FAILOVER and seed % OUTLIVED_EVERY == 0:
            self.plan = outlived(self.plan)
        self.loop = SimulatedLoop(self.chance)
        self.network = Network(self.loop, self.chance)
        self.api_skew_s = 0.0
        self.trace: deque[str] = deque(maxlen=None if keeps_all else TRACE_LINES)
        self._digest = blake2b(digest_size=16)
        self.told = Told()
        self.counts = {"crashes": 0, "failovers": 0, "lost writes": 0}
        self.ledger = Ledger()
        self.judge = Judge(self.ledger, is_tampered=self.plan.kind is Kind.TAMPERED)
        self.store = Store(self.chance, self.plan.partitions, self.loop.time, self.judge)
        self.store.began_ms = BEGAN_MS
        self.apis: list[Api] = []
        self.quiet: list[Api] = []
        self.workers: list[Worker] = []
        self.repairs: list[str] = []
        self.tampered: list[str] = []
        self.limits = {self.plan.limit, 1, 2, 3}
        self.has_brought_back = False  # whether a rebuild has restored a claim by its receipt
        self.running: list[asyncio.Task[Any]] = []

    @property
    def has_lost_writes(self) -> bool:
        """Whether the store has lost something that was done: then receipts bring back claims, and nothing else."""
        return self.plan.kind is Kind.EMPTIED or self.counts["lost writes"] > 0

    def say(self, text: str) -> None:
        line = f"{self.loop.time():9.4f} {text}"
        self.trace.append(line)
        self._digest.update(line.encode())

    def breaks(self, check: str, detail: str) -> None:
        self.judge.breaks(check, detail)
        self.say(f"BROKEN {check}: {detail}")

    def wall_s(self) -> float:
        return BEGAN_MS / 1000 + self.loop.time() + self.api_skew_s

    def run(self) -> Outcome:
        log = Log(self._hear)
        asyncio.set_event_loop(self.loop)
        try:
            with swapped(self.loop.time, self.wall_s, self.chance, log):
                self.loop.run_until_complete(self._live())
        except (AssertionError, TimeoutError) as error:  # the latter: what was begun does not end
            self.breaks("the run comes to an end", repr(error))
        finally:
            self._close()
        for fault in self.loop.faults:
            self.breaks("no error is left alone", fault)
        return self._outcome()

    def _hear(self, event: str, facts: Mapping[str, Any]) -> None:
        said = " ".join(f"{name}={value}" for name, value in facts.items())
        self.say(f"log {event} {said}")
        if event in ("difference", "drop rebuilt", "drop not rebuilt", "drop missing"):
            self.repairs.append(f"{event} {said}")
        if event in ("batch failed", "answer failed", "waiter failed"):
            self.breaks("no error is left alone", f"{event} {said}")

    async def _live(self) -> None:
        plan = self.plan
        self.site = Site(self.network, self.store, self.ledger, plan.partitions, self.wall_s)
        self.apis = [Api(self.site, f"api-{number}") for number in range(plan.apis)]
        self.workers = [Worker(self.site, f"worker-{number}") for number in range(plan.workers)]
        self.store.sync_s_max, self.store.replica_lag_s = plan.sync_s_max, plan.replica_lag_s
        self.store.is_replicated = plan.is_replicated
        operator = Operator(self, self.told)
        self.say(f"seed {self.seed}: {plan}")
        await self._open(operator)
        self.network.weather = plan.weather
        began_s = self.loop.time()
        crowd = people(self.seed, plan.people, [f"item-{n + 1}" for n in range(len(plan.stocks))], plan.stocks)
        self.members = [Member(self, person, self.told) for person in crowd]
        self.running = [self.loop.create_task(member.live()) for member in self.members]
        for event in plan.events:
            await asyncio.sleep(max(0.0, began_s + event.at_s - self.loop.time()))
            self.running.append(self.loop.create_task(faults.happen(self, operator, event.what)))
        await asyncio.sleep(max(0.0, began_s + ACTIVE_S - self.loop.time()))
        await self._heal(operator)
        checks.look(self)

    async def _open(self, operator: Operator) -> None:
        spec = self._spec()
        while True:
            try:
                await reach(self, lambda api: api.drops.create(spec, Actor("boss", "create")))
                break
            except DuplicateDrop:
                break
            except (Unavailable, OSError):
                await asyncio.sleep(0.1)
        assert await operator.act("launch", tries=50)

    def _spec(self) -> DropSpec:
        plan = self.plan
        opens = from_ms(BEGAN_MS + 1_500)
        closes = opens + timedelta(seconds=plan.closes_s)
        items = [
            {"id": f"item-{number}", "title": {"en": "Box"}, "stock": stock}
            for number, stock in enumerate(plan.stocks, start=1)
        ]
        waves = []
        if plan.has_second_wave:
            first = {f"item-{n}": (stock + 1) // 2 for n, stock in enumerate(plan.stocks, start=1)}
            second = {f"item-{n}": stock // 2 for n, stock in enumerate(plan.stocks, start=1)}
            waves = [{"at": opens, "stock": first}, {"at": opens + timedelta(seconds=2), "stock": second}]
        return DropSpec.model_validate(
            {
                "id": DROP_ID,
                "title": {"en": "Rush"},
                "organisation": "dongguan",
                "allocation": "rush",
                "opens_at": opens,
                "closes_at": closes,
                "limit_per_member": plan.limit,
                "items": items,
                "waves": waves,
            }
        )

    async def _heal(self, operator: Operator) -> None:
        """The faults are over: everything comes up, catches up, and everybody gets an answer."""
        self.say("healing")
        self.network.weather = Weather()
        await asyncio.wait_for(asyncio.gather(*self.running), HEALED_S_MAX)
        self.network.weather = Weather()  # a storm that ends brings back the weather before it
        faults.start_all(self)
        await self._until_quiet()
        if self.plan.kind in (Kind.FAILOVER, Kind.EMPTIED):
            await self._prove()
            self.repairs.clear()  # from now on nothing is wrong
        for ticket, (member_id, _) in list(self.told.open_tickets.items()):
            member = next(m for m in self.members if m.member_id == member_id)
            await member.press(ticket, 60, is_last=True)
            if ticket in self.told.open_tickets:
                self.breaks("everybody gets an answer", f"{member_id} has none")
        await self._until_quiet()
        await asyncio.sleep(ROUNDS_S)
        await self._until_quiet()

    async def _prove(self) -> None:
        """The operator rebuilds the drop with the receipts that members have."""
        process = Process("rebuild")
        task = process.spawn(self._rebuild(process))
        await asyncio.wait({task}, timeout=4 * HEALED_S_MAX)
        if not task.done():
            self.breaks("a rebuild comes to an end", "it has not")

    async def _rebuild(self, process: Process) -> None:
        while True:
            receipts = list(self.told.receipts.values())
            rebuild = Rebuild(self.site.stores(process), self.plan.partitions, DROP_ID, receipts)
            try:
                report = await rebuild.apply(Actor("boss"), "after the fault")
            except RebuildRefused as error:
                self.breaks("a rebuild with all receipts is not refused", error.detail)
                return
            except (FlashclaimError, OSError) as error:
                self.say(f"rebuild: {error!r}"[:200])
                await asyncio.sleep(0.2)
                continue
            self.has_brought_back |= report.restored > 0
            self.say(f"rebuilt: epoch {report.epoch}, {report.claims} claims, {report.restored} restored")
            self._void(report.superseded)
            return

    def _void(self, superseded: list[str]) -> None:
        """Who resumes before the receipts are in lets their tickets claim again: then the second claim counts."""
        if superseded and not any(event.what == "resume" for event in self.plan.events):
            self.breaks("no receipt is superseded where nobody resumed", str(superseded))
        self.told.facts = [fact for fact in self.told.facts if str(fact.claim_id) not in superseded]

    async def _until_quiet(self) -> None:
        until_s = self.loop.time() + HEALED_S_MAX
        while not checks.is_quiet(self):
            if self.loop.time() > until_s:
                self.breaks("all recovers within a minute", checks.what_waits(self))
                return
            await asyncio.sleep(0.1)

    def _close(self) -> None:
        """Nothing of this run goes on: whoever lives is killed and unwinds."""
        self.loop.turns = 0  # also of one that did not come to an end
        for api in self.apis:
            api.kill()
        for worker in self.workers:
            worker.kill()
        for _ in range(20):
            left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
            if not left:
                break
            for task in sorted(left, key=hash):
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(left, timeout=1))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        self.loop.close()

    def _outcome(self) -> Outcome:
        figures = {
            "events": self.loop.events,
            "claims": self.judge.accepted,
            "presses": self.told.pressed,
            "calls": self.network.sent,
            **self.counts,
        }
        return Outcome(
            self.seed, str(self.plan.kind), self.judge.broken, list(self.trace), self._digest.hexdigest(), figures
        )


def simulate(seed: int, *, keeps_all: bool = False) -> Outcome:
    """Run one seed."""
    return World(seed, keeps_all=keeps_all).run()
