"""`usual`: FastAPI, redis-py, one EVALSHA a request, as most people write it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

SCRIPT = Path(__file__).with_name("claim_one.lua")


class Claimed(BaseModel):
    claim_id: str
    member_id: str
    left: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # redis-py keeps at most 100 connections unless it is told: the request after that would be refused.
    redis = Redis.from_url(os.environ["BENCH_REDIS_URL"], max_connections=1_000)
    app.state.claim = redis.register_script(SCRIPT.read_text())
    yield
    await redis.aclose()


async def script(request: Request) -> AsyncScript:
    found: AsyncScript = request.app.state.claim
    return found


app = FastAPI(lifespan=lifespan)


@app.post("/drops/{drop_id}/claims", status_code=201)
async def claim(
    drop_id: str, x_member_id: Annotated[str, Header()], decide: Annotated[AsyncScript, Depends(script)]
) -> Claimed:
    left = await decide(keys=[f"stock:{drop_id}", f"members:{drop_id}"], args=[x_member_id])
    if left < 0:
        raise HTTPException(409, "limit reached" if left == -1 else "sold out")
    return Claimed(claim_id=f"{drop_id}.{left}", member_id=x_member_id, left=left)
