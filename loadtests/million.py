"""`python -m loadtests.million`: a rush of a million claims, then how long the audit and a rebuild take over it.

The claims go through the claim service of one process (tickets, batches, receipts, a client log), not through HTTP; the
ledger is written by one worker. MILLION_CLAIMS makes it shorter.
"""

import asyncio
import gc
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engine.bounds import OUTBOX_BYTES_MAX
from engine.claims.backlog import Backlog
from engine.claims.batcher import Answer
from engine.claims.model import Claim
from engine.claims.service import Claims
from engine.drops.model import Actor, Drop
from engine.drops.service import Drops
from engine.drops.spec import parse
from engine.ledger.audit import audit, wait_until_recorded
from engine.ledger.rebuild import Rebuild
from engine.members.model import Session
from engine.runtime.connections import Stores, open_stores
from engine.runtime.settings import load_settings
from loadtests.stage import recorded, say, servers, timed

CLAIMS = 1_000_000
AT_ONCE = 8_192  # claims that wait for their answers
DROP = "million"


def main() -> int:
    """Run it; the exit code is 1 when the audit finds a difference."""
    gc.disable()  # as `flashclaim audit` does
    with servers() as (place, redis_url, postgres_url):
        return asyncio.run(_run(place, redis_url, postgres_url))


async def _run(data_dir: Path, redis_url: str, postgres_url: str) -> int:
    settings = load_settings(data_dir, redis_url=redis_url, postgres_url=postgres_url)
    count = int(os.environ.get("MILLION_CLAIMS", str(CLAIMS)))
    async with open_stores(settings) as stores:
        drops = Drops(stores.redis, stores.scripts, stores.ledger, 1)
        claims = Claims(stores.scripts, stores.ledger, drops, settings, Backlog(stores.redis, 1, OUTBOX_BYTES_MAX))
        log = data_dir / "claims.jsonl"
        async with recorded(stores):
            with timed(f"{count} claims, with tickets, receipts and a client log"):
                await _rush(claims, await _launched(drops, count), count, log)
            with timed("the ledger has them"):
                assert await wait_until_recorded(stores.redis, 1, 120)
        with timed("audit with the client log"):
            report = await audit(stores, 1, settings.receipt_keyring, DROP, log)
        counts = f"accepted {report.accepted}, told {report.told}, in ledger {report.in_ledger}"
        say(f"{counts}: {report.differences} differences")
        await _rebuild(stores)
        return 1 if report.differences else 0


async def _launched(drops: Drops, stock: int) -> Drop:
    opens = datetime.now(UTC) - timedelta(minutes=1)
    spec = {
        "id": DROP,
        "title": {"en": "A million"},
        "organisation": "dongguan",
        "allocation": "rush",
        "opens_at": opens.isoformat(),
        "closes_at": (opens + timedelta(hours=2)).isoformat(),
        "items": [{"id": "box", "title": {"en": "Box"}, "stock": stock}],
    }
    await drops.create(parse(spec, "million"), Actor("million"))
    return await drops.launch(DROP, Actor("million"))


async def _rush(claims: Claims, drop: Drop, count: int, path: Path) -> None:
    places = asyncio.Semaphore(AT_ONCE)
    with path.open("w", encoding="utf-8") as log:

        def tell(answer: Answer) -> None:
            places.release()
            assert isinstance(answer, Claim), answer
            line = {"claim_id": str(answer.claim_id), "drop_id": DROP, "item": answer.item, "quantity": 1}
            log.write(json.dumps({**line, "serial": answer.serial, "receipt": answer.receipt}) + "\n")

        for number in range(count):
            await places.acquire()
            ticket = claims.issue_ticket(Session(f"m-{number}", f"m-{number}"), drop, None, None).ticket
            claims.submit(drop, claims.open_ticket(ticket), None, None, tell)
            if number % 256 == 0:
                await asyncio.sleep(0)
        await claims.drain()


async def _rebuild(stores: Stores) -> None:
    work = Rebuild(stores, 1, DROP)
    with timed("rebuild, dry run"):
        report = await work.report()
    say(f"{report.claims} claims, {len(report.other)} other, {len(report.only_in_ledger)} only in the ledger")
    with timed("rebuild from the ledger"):
        await work.apply(Actor("million"), "measured")


if __name__ == "__main__":
    sys.exit(main())
