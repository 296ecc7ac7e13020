"""Health, readiness and metrics: what a load balancer and a monitoring system call."""

import os
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.deps import Services, ServicesDep
from api.openapi import declared
from engine.claims import keys
from engine.claims.model import NotReady
from engine.claims.outbox import GROUP
from engine.errors import Unavailable
from engine.ledger import migrations

METRICS_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client reads it at its import
router = APIRouter(tags=["operations"])
OUTBOX_ENTRIES = Gauge(
    "flashclaim_outbox_entries", "Entries in the outbox, not yet trimmed", ["partition"], multiprocess_mode="mostrecent"
)
OUTBOX_WAITING = Gauge(
    "flashclaim_outbox_waiting",
    "Entries that the ledger has not acknowledged",
    ["partition"],
    multiprocess_mode="mostrecent",
)


@router.get("/healthz")
async def health() -> dict[str, str]:
    """The process lives. Says nothing of the stores: restarting this process would not mend them."""
    return {"status": "ok"}


@router.get("/readyz", responses=declared("not-ready"))
async def ready(use: ServicesDep) -> dict[str, str]:
    """The process can decide claims: the store is at home, and the ledger has the tables of this version."""
    try:
        async with use.stores.ledger.connect() as connection:
            await connection.execute(text("select 1"))
        current = await migrations.current(use.stores.ledger)
    except (SQLAlchemyError, OSError) as error:
        raise NotReady("the ledger does not answer") from error
    # Newer tables are this version's and more: between `migrate` and the new processes the old ones stay ready.
    if current != migrations.newest() and migrations.is_known(current):
        raise NotReady(f"the ledger is at migration {current}: run `flashclaim migrate`")
    try:
        await use.stores.scripts.home()
        known = [await use.stores.scripts.ask("GET", keys.home(p)) for p in range(use.settings.partitions)]
    except Unavailable as error:
        raise NotReady(f"the store does not answer: {error.detail}") from error
    if any(found != use.stores.scripts.trusted.encode() for found in known):
        raise NotReady("the store is being compared with the ledger: is a worker running?")
    return {"status": "ready"}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(use: ServicesDep) -> Response:
    """Prometheus metrics of all processes on this port, and of the outboxes at this moment."""
    try:
        await _measure_outboxes(use)
    except (RedisError, OSError):
        OUTBOX_ENTRIES.clear()
        OUTBOX_WAITING.clear()
    return Response(generate_latest(_registry()), media_type=CONTENT_TYPE_LATEST)


def _registry() -> CollectorRegistry:
    """This process's figures; with several processes the sum of theirs, which they keep in files (`cli/serve.py`)."""
    if METRICS_DIR_VARIABLE not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


async def _measure_outboxes(use: Services) -> None:
    for partition in range(use.settings.partitions):
        stream, label = keys.outbox(partition), str(partition)
        OUTBOX_ENTRIES.labels(label).set(await use.stores.redis.xlen(stream))
        try:
            groups: list[dict[str, Any]] = await use.stores.redis.xinfo_groups(stream)
        except ResponseError:
            continue  # no stream yet: nothing was ever decided in this partition
        for group in groups:
            if group["name"] == GROUP.encode():
                OUTBOX_WAITING.labels(label).set((group["lag"] or 0) + group["pending"])
