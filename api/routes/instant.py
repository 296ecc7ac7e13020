"""Instant wins: what was committed to, for everybody; after the close the whole document, for operators to publish."""

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from api.deps import ServicesDep
from api.examples import INSTANT_COMMITTED, INSTANT_REVEALED
from api.openapi import BOUNDED, declared, shown
from api.routes.drops import shown_drop
from api.scope import OwnDrop
from engine.draws import dealer, plays
from engine.draws.plays import NotInstant
from engine.drops.model import Drop, WrongStatus

router = APIRouter(prefix="/v1/drops", tags=["instant wins"], responses=declared("invalid"))


@router.get(
    "/{drop_id}/commitment",
    responses={
        200: shown(INSTANT_COMMITTED, "What was committed to at the launch"),
        **declared(
            "no-such-drop", "not-instant", "wrong-status", "session-invalid", "identity-unavailable", "not-ready"
        ),
    },
    openapi_extra={"security": [{}]},
)
async def commitment(drop: Annotated[Drop, Depends(shown_drop)]) -> dict[str, Any]:
    """What an instant win was committed to at its launch: rules, prizes, curve, window, and the hash of a secret.

    `python verify.py` checks it (docs/draws.md). Anybody may read it.
    """
    if drop.spec.instant is None:
        raise NotInstant(f"drop {drop.id!r} is no instant win", drop_id=drop.id)
    found = dealer.commitment(drop.spec)
    if found is None:
        raise WrongStatus(
            f"drop {drop.id!r} is {drop.status}: the commitment comes with its launch",
            status=str(drop.status),
            allowed_from=["launched"],
        )
    return {**found}


@router.get(
    "/{drop_id}/instant-document",
    responses={
        200: shown(INSTANT_REVEALED, "The whole document, to be published"),
        **declared(
            *BOUNDED, "no-such-drop", "not-instant", "wrong-status", "commitment-broken", "not-ready",
            "store-unavailable",
        ),
    },
)  # fmt: skip
async def document(drop_id: OwnDrop, use: ServicesDep) -> Response:
    """The secret, every play and the odds of a closed instant win, to publish as a file; 20 MB for a million plays."""
    drop = await use.drops.read(drop_id)
    found = await plays.revealed(use.stores, use.settings.partitions, drop)
    text = await asyncio.to_thread(json.dumps, found, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(), media_type="application/json")
