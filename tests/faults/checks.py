"""What is checked after each round: those of the promises that can be seen from outside."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psutil
from sqlalchemy import func, select

from engine.claims import history, keys
from engine.drops.model import Verb, to_ms
from engine.ledger.audit import audit, wait_until_recorded
from engine.ledger.schema import dead_letters, operator_actions
from engine.runtime.connections import Stores
from tests.faults.rush import RESTOCKED, STOCK, Exchange

if TYPE_CHECKING:
    from tests.faults.scene import Scene

DRAINED_S_MAX = 60.0
TRIMMED_S_MAX = 15.0
# What the API may take: 120 MB of Python and libraries, 5,000 connections of 20 kB, 16,384 waiting claims of 2 kB.
API_BYTES_MAX = 120_000_000 + 5_000 * 20_000 + 16_384 * 2_000
_CLOCK_MS = 5  # the store's clock and ours are one; it tells milliseconds, cut off, and answers take a moment


async def check(scene: "Scene[Any]", stores: Stores) -> int:
    """Check everything; how many claims were told and found. Raises with all that is wrong."""
    assert await wait_until_recorded(stores.redis, 1, DRAINED_S_MAX), "the ledger did not catch up"
    wrong = [
        *scene.rush.told.wrong,
        *await _audited(scene, stores),
        *await _acts(scene, stores),
        *await _releases(scene, stores),
        *await _sold_out(scene, stores),
        *await _leftovers(scene, stores),
        *_logged(scene),
        *_memory(scene),
    ]
    assert wrong == [], "\n".join(wrong)
    return len({claim["claim_id"] for claim in scene.rush.told.claims})


async def _audited(scene: "Scene[Any]", stores: Stores) -> list[str]:
    """Promises 1, 2, 4 to 6, 10, 11, 16: client log, store, outbox and ledger agree claim by claim."""
    log = scene.stack.place / f"{scene.rush.drop_id}.jsonl"
    log.write_text("".join(json.dumps(claim) + "\n" for claim in scene.rush.told.claims))
    report = await audit(stores, 1, scene.stack.settings.receipt_keyring, scene.rush.drop_id, log)
    found = list(report.details)
    # Everybody asked until they knew: so everything that was accepted was also told.
    if not report.accepted == report.in_ledger == report.told > 0:
        found.append(f"accepted {report.accepted}, in the ledger {report.in_ledger}, told {report.told}")
    return found


async def _acts(scene: "Scene[Any]", stores: Stores) -> list[str]:
    """Promises 7 and 20: each act is recorded once, in order, and nothing is dated within a pause."""
    async with stores.ledger.connect() as connection:
        query = select(operator_actions.c.verb).where(
            operator_actions.c.drop_id == scene.rush.drop_id, operator_actions.c.revision.is_not(None)
        )
        verbs = list(await connection.scalars(query.order_by(operator_actions.c.revision)))
        rows = [row async for page in history.of_drop(connection, scene.rush.drop_id) for row in page]
    once = [Verb.CREATE, Verb.LAUNCH, Verb.PAUSE, Verb.RESUME, Verb.RESTOCK]
    found = [] if sorted(verbs) == sorted([*once, *scene.expected]) else [f"the ledger has the acts {verbs}"]
    paused_s = max(act.answered_s for act in _done(scene, "pause"))
    resumed_s = min(act.sent_s for act in scene.rush.told.exchanges if act.what == "resume")
    if scene.clock_is_true:
        found += [
            f"{row.claim_id} is dated {row.claimed_at}, while the drop was paused"
            for row in rows
            if paused_s * 1000 + _CLOCK_MS < to_ms(row.claimed_at) < resumed_s * 1000 - _CLOCK_MS
        ]
    return found


async def _releases(scene: "Scene[Any]", stores: Stores) -> list[str]:
    """Promise 10: exactly the claims that were given back are recorded so."""
    async with stores.ledger.connect() as connection:
        rows = [row async for page in history.of_drop(connection, scene.rush.drop_id) for row in page]
    released = {str(row.claim_id) for row in rows if row.released_at is not None}
    return (
        [] if released == scene.rush.told.released else [f"given back {scene.rush.told.released}, recorded {released}"]
    )


async def _sold_out(scene: "Scene[Any]", stores: Stores) -> list[str]:
    """Promise 9: whoever was told "sold out" was told so at a moment at which nothing was left."""
    if not scene.clock_is_true:
        return []
    async with stores.ledger.connect() as connection:
        rows = [row async for page in history.of_drop(connection, scene.rush.drop_id) for row in page]
    boxes = [row for row in rows if row.item == 1]
    restock = _done(scene, "restock")[0]
    first_restock_s = min(found.sent_s for found in scene.rush.told.exchanges if found.what == "restock")
    changes = [(to_ms(row.claimed_at), -1) for row in boxes]
    changes += [(to_ms(row.released_at), 1) for row in boxes if row.released_at is not None]
    changes.sort()
    return [
        f"sold out was said between {said.sent_s:.3f} and {said.answered_s:.3f}, when boxes were left"
        for said in scene.rush.told.exchanges
        if said.code == "sold-out"
        # While the restock was under way nobody outside knows on which side of it an answer was.
        and not (said.sent_s < restock.answered_s and said.answered_s > first_restock_s)
        and _least_left(said, STOCK + (RESTOCKED if said.sent_s >= restock.answered_s else 0), changes) > 0
    ]


def _least_left(said: Exchange, stock: int, changes: list[tuple[int, int]]) -> int:
    """The fewest units left at any moment between a request and its answer."""
    left = least = stock
    for at_ms, change in changes:
        if at_ms > said.answered_s * 1000 + _CLOCK_MS:
            break
        if at_ms < said.sent_s * 1000 - _CLOCK_MS:
            left = least = left + change
        else:
            left += change
            least = min(least, left)
    return least


async def _leftovers(scene: "Scene[Any]", stores: Stores) -> list[str]:
    """Promises 12, 13, 18: no dead letters, and an outbox that was trimmed to its last entry."""
    async with stores.ledger.connect() as connection:
        buried = await connection.scalar(select(func.count()).select_from(dead_letters))
    found = [] if buried == 0 else [f"{buried} dead letters"]
    deadline = time.monotonic() + TRIMMED_S_MAX
    while (entries := await stores.redis.xlen(keys.outbox(0))) > 1:
        if time.monotonic() > deadline:
            return [*found, f"the outbox still has {entries} entries"]
        await asyncio.sleep(0.1)
    return found


def _logged(scene: "Scene[Any]") -> list[str]:
    """Promise 19: no ticket, receipt, session token or key is in any log."""
    known = json.loads((scene.stack.place / "keys.json").read_text())
    secrets = {text.encode() for text in (*scene.rush.told.secrets, *_texts(known))}
    return [
        f"{path.name} holds the secret {secret[:12].decode()}…"
        for path, log in scene.stack.logs().items()
        for secret in secrets
        if secret in log
    ]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)


def _memory(scene: "Scene[Any]") -> list[str]:
    """Promise 18: the API takes no more memory than its bounds add up to."""
    used: int = psutil.Process(scene.stack.api_pid).memory_info().rss
    return [] if used <= API_BYTES_MAX else [f"the API takes {used} bytes, the bound is {API_BYTES_MAX}"]


def _done(scene: "Scene[Any]", what: str) -> list[Exchange]:
    return [found for found in scene.rush.told.exchanges if found.what == what and found.status in (200, 201)]
