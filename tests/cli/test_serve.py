"""The promise: `serve` says at its start where it listens and what is wrong, once, and does not start with a fault."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.runtime.connections import Stores
from engine.runtime.keyfile import ensure_keys
from engine.runtime.servers import free_port
from engine.runtime.settings import Settings

Said = list[dict[str, Any]]


async def started(settings: Settings, *words: str, **env: str) -> Process:
    urls = {"FLASHCLAIM_REDIS_URL": settings.redis_url, "FLASHCLAIM_POSTGRES_URL": settings.postgres_url}
    command = (sys.executable, "-m", "cli", *words)
    return await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **urls, **env}, stderr=asyncio.subprocess.PIPE
    )


@asynccontextmanager
async def serving(settings: Settings, data_dir: Path, *options: str, **env: str) -> AsyncIterator[tuple[int, Said]]:
    """A real `serve` until it is ready to answer: its port, and what it has logged by then."""
    ensure_keys(data_dir)
    port = free_port()
    process = await started(settings, "serve", "--port", str(port), "--data", str(data_dir), *options, **env)
    assert process.stderr is not None
    said: Said = []
    try:
        async with asyncio.timeout(60):
            while not said or said[-1]["event"] != "listening":
                said.append(json.loads(await process.stderr.readline()))
            yield port, said
    finally:
        process.terminate()
        rest, _ = await asyncio.gather(process.stderr.read(), process.wait())
        said += [json.loads(line) for line in rest.splitlines() if line.startswith(b"{")]


async def is_healthy(address: str, port: int) -> bool:
    host = f"[{address}]" if ":" in address else address
    async with httpx.AsyncClient(timeout=30) as client:  # without a second try: from `listening` on nobody is refused
        return (await client.get(f"http://{host}:{port}/healthz")).status_code == 200


async def test_it_answers_on_each_address_of_its_name(settings: Settings, stores: Stores, tmp_path: Path) -> None:
    addresses = {row[4][0] for row in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}
    async with serving(settings, tmp_path, "--host", "localhost") as (port, said):
        assert set(said[-1]["addresses"]) == addresses
        assert [await is_healthy(str(address), port) for address in addresses] == [True] * len(addresses)


async def test_several_processes_share_them_all(settings: Settings, stores: Stores, tmp_path: Path) -> None:
    async with serving(settings, tmp_path, "--host", "::", "--workers", "2") as (port, said):
        assert await is_healthy("::1", port)
        assert await is_healthy("127.0.0.1", port)
    assert [line for line in said if line["level"] != "info"] == []


async def test_several_partitions_are_one_warning_however_many_processes(
    settings: Settings, stores: Stores, tmp_path: Path
) -> None:
    split = {"FLASHCLAIM_PARTITIONS": "2"}
    async with serving(settings, tmp_path, "--workers", "2", **split) as (port, said):
        assert await is_healthy("127.0.0.1", port)
    (warning,) = [line for line in said if line["level"] != "info"]
    assert warning["level"] == "warning"
    assert warning["event"].startswith("partitions is 2: ")
    assert "promise 9" in warning["advice"]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_of_two_that_start_together_one_ends_with_a_sentence(
    settings: Settings, stores: Stores, tmp_path: Path, workers: str
) -> None:
    """By the process that was started, and not by each that it would start."""
    ensure_keys(tmp_path)
    port = free_port()
    words = ("serve", "--port", str(port), "--workers", workers, "--data", str(tmp_path))
    both = [await started(settings, *words) for _ in range(2)]
    said = [asyncio.create_task(each.stderr.read()) for each in both if each.stderr is not None]
    try:
        async with asyncio.timeout(30):
            (told,), _ = await asyncio.wait(said, return_when=asyncio.FIRST_COMPLETED)
            assert told.result().decode() == (
                f"flashclaim: cannot listen on 127.0.0.1, port {port}: Address already in use\n"
            )
            assert await both[said.index(told)].wait() == 2
        assert await is_healthy("127.0.0.1", port)
    finally:
        for each in both:
            if each.returncode is None:
                each.terminate()
        await asyncio.gather(*(each.wait() for each in both), *said)


def test_a_faulty_deny_list_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    ensure_keys(tmp_path)
    (tmp_path / "dev.json").write_text('{"redis_url": "redis://127.0.0.1:1/0", "postgres_url": "postgresql://x"}')
    (tmp_path / "deny").write_text("member m-1\n203.0.113.9\n")
    done = subprocess.run(
        [sys.executable, "-m", "cli", "serve", "--port", "1", "--workers", "2", "--data", str(tmp_path)],
        env={**os.environ, "FLASHCLAIM_DENY_FILE": str(tmp_path / "deny")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("flashclaim: deny_file ")
    assert "line 2: '203.0.113.9' is neither" in done.stderr
    assert done.stderr.count("\n") == 1
