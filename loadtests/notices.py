"""What telling costs, and how soon it is heard: many winners in one statement, then many members who listen.

python -m loadtests.notices --winners 100000 --listeners 1000
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import quantiles

import httpx
import psutil

from engine.ledger.migrations import migrate
from engine.members.model import Session
from engine.members.session import SessionTokens
from engine.notices import service, store
from engine.notices.model import Message
from engine.runtime.connections import Stores, open_stores
from engine.runtime.servers import free_port, is_answering, stop_process
from engine.runtime.settings import Settings, load_settings
from loadtests.stage import servers

FACTS = {"draw": {"zh": "端午好礼", "en": "Dragon Boat gifts"}, "prize": {"zh": "烧鹅券", "en": "roast goose voucher"}}
ROUNDS = 5
CONNECT_AT_ONCE = 50


def messages(count: int, once: str) -> list[Message]:
    return [Message(f"m-{number}", "prize-arrived", FACTS, once) for number in range(count)]


async def tell(stores: Stores, count: int, once: str) -> float:
    began_s = time.perf_counter()
    async with stores.ledger.begin() as connection:
        await service.tell(connection, messages(count, once))
    return time.perf_counter() - began_s


async def measure_telling(stores: Stores, winners: int) -> None:
    for count in (2_000, winners):
        first_s, again_s = await tell(stores, count, "won"), await tell(stores, count, "won")
        print(f"{count} winners: told in {first_s:.2f} s, the same again in {again_s:.2f} s")
    began_s, place, read = time.perf_counter(), 0, 0
    while True:
        async with stores.ledger.begin() as connection:
            page = await store.events_after(connection, place)
        if not page:
            break
        place, read = page[-1].place, read + len(page)
    print(f"{read} events read in {time.perf_counter() - began_s:.2f} s")


async def measure_listening(stores: Stores, settings: Settings, api: psutil.Process, url: str, listeners: int) -> None:
    tokens, heard = SessionTokens(settings), asyncio.Queue[float]()
    places = asyncio.Semaphore(CONNECT_AT_ONCE)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(30, read=600), limits=limits) as client:

        async def listen(number: int, ready: asyncio.Event) -> None:
            token = tokens.issue(Session(f"m-{number}", f"m-{number}"), 3_600)
            async with places:
                stream = client.stream("GET", "/v1/me/messages/live", headers={"Authorization": f"Bearer {token}"})
                answer = await stream.__aenter__()
            ready.set()
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    heard.put_nowait(time.time())

        before = api.memory_info().rss
        ready = [asyncio.Event() for _ in range(listeners)]
        tasks = [asyncio.create_task(listen(number, is_ready)) for number, is_ready in enumerate(ready)]
        await asyncio.gather(*(is_ready.wait() for is_ready in ready))
        print(f"{listeners} listeners: {(api.memory_info().rss - before) / listeners / 1_000:.0f} kB each")
        for count in (1, listeners):
            waits_s = []
            for number in range(ROUNDS):
                await tell(stores, count, f"live-{count}-{number}")
                told_s = time.time()
                waits_s += [await heard.get() - told_s for _ in range(count)]
            points = quantiles(waits_s, n=100)
            print(f"told to {count}, heard after: median {points[49]:.3f} s, p99 {points[98]:.3f} s")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run(place: Path, urls: dict[str, str], winners: int, listeners: int) -> None:
    settings, port = load_settings(place, **urls), free_port()
    async with open_stores(settings) as stores:
        await migrate(stores.ledger)
        await measure_telling(stores, winners)
        variables = {f"FLASHCLAIM_{name.upper()}": value for name, value in urls.items()}
        command = [sys.executable, "-m", "cli", "serve", "--port", str(port), "--data", str(place)]
        environment = {**os.environ, **variables}
        process = await asyncio.to_thread(subprocess.Popen, command, env=environment, stderr=subprocess.DEVNULL)
        try:
            while not is_answering(port):  # noqa: ASYNC110 (a port tells nobody)
                await asyncio.sleep(0.1)
            api = psutil.Process(process.pid)
            await measure_listening(stores, settings, api, f"http://127.0.0.1:{port}", listeners)
        finally:
            stop_process(process)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--winners", type=int, default=100_000)
    options.add_argument("--listeners", type=int, default=1_000)
    given = options.parse_args()
    with servers() as (place, redis_url, postgres_url):
        urls = {"redis_url": redis_url, "postgres_url": postgres_url}
        asyncio.run(run(place, urls, given.winners, given.listeners))
