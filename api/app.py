"""Builds the FastAPI app; lists the routes; nothing else."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from api import problems
from api.deps import Services
from api.edge import Edge
from api.exchange import Gate
from api.routes import (
    campaigns,
    city_map,
    claims,
    docs,
    draws,
    drops,
    gates,
    groups,
    instant,
    members,
    messages,
    operations,
    organisations,
    schedule,
)
from engine.bounds import LEDGER_ANSWER_S_MAX
from engine.campaigns.service import Campaigns
from engine.claims.backlog import Backlog
from engine.claims.service import Claims
from engine.draws.service import Draws
from engine.drops.service import Drops
from engine.ledger.erase import Erasures
from engine.members.service import Members
from engine.members.session import SessionTokens
from engine.notices.feed import Feed
from engine.organisations.service import Organisations
from engine.rates.control import RushControl
from engine.rates.denied import DenyList, read, watch
from engine.rates.shared import SharedBuckets
from engine.runtime import keyfile
from engine.runtime.connections import Stores, open_stores
from engine.runtime.settings import Settings, load_settings


def create_app(settings: Settings, data_dir: Path | None = None) -> FastAPI:
    """The app of one API process; its stores are opened at its start and closed at its end.

    With a data directory it takes up the keys there whenever they change.
    """

    cors = _cors(settings)
    denied = read(settings.deny_file) if settings.deny_file else DenyList()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with open_stores(settings, LEDGER_ANSWER_S_MAX) as stores:
            backlog = Backlog(stores.redis, settings.partitions, settings.outbox_bytes_max)
            services = _services(settings, stores, backlog, denied)
            app.state.services = services
            app.state.live = drops.LiveFeed()
            app.state.maps = city_map.MapFeed()
            stop = asyncio.Event()
            await services.claims.trust_none()
            watching = _watch(services, backlog, data_dir, stop)
            _calm_collector()
            yield {"gate": Gate(services, CORSMiddleware(app, **cors) if cors else None)}
            if services.control.shared is not None:
                await services.control.shared.drain()
            await services.claims.drain()
            stop.set()
            await asyncio.gather(*watching)

    # FastAPI's own docs pages load their script from a CDN; ours is in api/routes/docs.py.
    app = FastAPI(
        title="flashclaim",
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would be built from the Host header, which anybody can write
        root_path=settings.root_path,
    )
    for feature in (
        drops, campaigns, city_map, gates, claims, instant, draws, organisations, members, groups, messages, schedule,
        operations, docs,
    ):  # fmt: skip
        app.include_router(feature.router)
    app.mount(docs.STATIC_URL, docs.STATIC)
    problems.register(app)
    if cors:
        app.add_middleware(CORSMiddleware, **cors)
    app.add_middleware(Edge, logs_access=settings.access_log)
    return app


def _watch(
    services: Services, backlog: Backlog, data_dir: Path | None, stop: asyncio.Event
) -> list[asyncio.Task[None]]:
    """What a process looks after beside its requests, until `stop` is set; keys of the environment stay as they are."""
    claims, deny_file = services.claims, services.settings.deny_file
    watches = [backlog.watch(stop), claims.remind(stop), claims.follow(stop), services.feed.run(stop)]
    if data_dir is not None:
        watches.append(keyfile.watch(data_dir, stop, lambda: _take_up(services, load_settings(data_dir))))
    if deny_file:
        watches.append(watch(deny_file, services.control.use, stop))
    return [asyncio.create_task(watching) for watching in watches]


def _take_up(services: Services, settings: Settings) -> None:
    services.claims.use_keys(settings)
    services.stores.dealer.use_keys(settings.instant_keyring)


def _services(settings: Settings, stores: Stores, backlog: Backlog, denied: DenyList) -> Services:
    ways = Drops(stores.redis, stores.scripts, stores.ledger, settings.partitions, stores.dealer, settings.towns)
    organisations = Organisations(stores.ledger)
    members = Members(stores.ledger, organisations, settings.towns)
    return Services(
        settings=settings,
        stores=stores,
        drops=ways,
        draws=Draws(stores, ways, settings.partitions),
        campaigns=Campaigns(
            stores.redis, stores.ledger, ways, members, settings.partitions, settings.towns, settings.zone
        ),
        claims=Claims(stores.scripts, stores.ledger, ways, settings, backlog),
        sessions=SessionTokens(settings),
        organisations=organisations,
        members=members,
        erasures=Erasures(stores, settings.partitions),
        control=RushControl(settings, denied, SharedBuckets(stores.rates) if stores.rates else None),
        feed=Feed(stores.ledger),
        ending=asyncio.Event(),
    )


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
        "allow_headers": [
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "If-Match",
            "Last-Event-ID",
            "X-Client-Key",
            "X-Request-ID",
        ],
        "expose_headers": ["ETag", "Retry-After", "X-Request-ID"],
    }
