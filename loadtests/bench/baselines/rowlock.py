"""`rowlock`: FastAPI and PostgreSQL: one transaction a claim, the drop's row locked, a unique key for the limit."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, Header, HTTPException, Request
from pydantic import BaseModel

TABLES = """
    create table if not exists bench_drops (id text primary key, stock int not null);
    create table if not exists bench_claims (
        id bigint generated always as identity primary key, drop_id text not null, member_id text not null,
        claimed_at timestamptz not null default now(), unique (drop_id, member_id));
"""


class Claimed(BaseModel):
    claim_id: str
    member_id: str
    left: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["BENCH_POSTGRES_URL"], min_size=10, max_size=10) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/drops/{drop_id}/claims", status_code=201)
async def claim(drop_id: str, x_member_id: Annotated[str, Header()], request: Request) -> Claimed:
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        left = await connection.fetchval(
            "update bench_drops set stock = stock - 1 where id = $1 and stock > 0 returning stock", drop_id
        )
        if left is None:
            raise HTTPException(409, "sold out")
        try:
            number = await connection.fetchval(
                "insert into bench_claims (drop_id, member_id) values ($1, $2) returning id", drop_id, x_member_id
            )
        except asyncpg.UniqueViolationError:
            raise HTTPException(409, "limit reached") from None
    return Claimed(claim_id=f"{drop_id}.{number}", member_id=x_member_id, left=left)
