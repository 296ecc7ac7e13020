"""Builds the FastAPI app; lists the routes; nothing else."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from api import problems
from api.deps import Services
from api.edge import Edge
from api.gate import Gate
from api.rates import Rate
from api.routes import claims, docs, drops, members, operations
from engine.claims.backlog import Backlog
from engine.claims.service import Claims
from engine.drops.service import Drops
from engine.members.session import SessionTokens
from engine.runtime.connections import open_stores
from engine.runtime.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """The app of one API process; its stores are opened at its start and closed at its end."""

    cors = _cors(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with open_stores(settings) as stores:
            ways = Drops(stores.redis, stores.scripts, stores.ledger, settings.partitions)
            backlog = Backlog(stores.redis, settings.partitions, settings.outbox_bytes_max)
            services = Services(
                settings=settings,
                stores=stores,
                drops=ways,
                claims=Claims(stores.scripts, stores.ledger, ways, settings, backlog),
                sessions=SessionTokens(settings),
                member_rate=Rate(settings.member_claims_per_second, "member"),
                address_rate=Rate(settings.address_claims_per_second, "address"),
            )
            app.state.services = services
            app.state.live = drops.LiveFeed()
            stop = asyncio.Event()
            watching = asyncio.gather(backlog.watch(stop), services.claims.remind(stop))
            _calm_collector()
            yield {"gate": Gate(services, CORSMiddleware(app, **cors) if cors else None)}
            await services.claims.drain()
            stop.set()
            await watching

    # FastAPI's own docs pages load their script from a CDN; ours is in api/routes/docs.py.
    app = FastAPI(
        title="flashclaim",
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        root_path=settings.root_path,
    )
    for feature in (drops, claims, members, operations, docs):
        app.include_router(feature.router)
    app.mount(docs.STATIC_URL, docs.STATIC)
    problems.register(app)
    if cors:
        app.add_middleware(CORSMiddleware, **cors)
    app.add_middleware(Edge, logs_access=settings.access_log)
    return app


def _calm_collector() -> None:
    """Keep Python's cycle collector from walking the whole program many times a second of a rush.

    Nothing on the claim path makes cycles; what was imported and built until now stays for ever.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _cors(settings: Settings) -> dict[str, Any]:
    if not settings.cors_origins:
        return {}
    return {
        "allow_origins": list(settings.cors_origins),
        "allow_methods": ["GET", "POST", "PATCH", "PUT"],
        "allow_headers": ["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-Request-ID"],
        "expose_headers": ["ETag", "Retry-After", "X-Request-ID"],
    }
