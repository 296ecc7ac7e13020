"""`flashclaim serve`, `worker`, `migrate`: the parts of a production system, each as many times as it is needed."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DataDir, say

if TYPE_CHECKING:
    from fastapi import FastAPI

    from engine.runtime.settings import Settings


# libuv takes in one connection of a listener in each turn of its loop (https://github.com/libuv/libuv/pull/3696). Under
# a flood a turn takes 20 ms: thousands that connect would wait for minutes. So the port has several listeners.
LISTENERS = 16


def register(app: typer.Typer) -> None:
    @app.command()
    def serve(
        host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65_535)] = 8000,
        workers: Annotated[int, typer.Option(help="Processes that share the port.", min=1, max=64)] = 1,
        data: DataDir = None,
    ) -> None:
        """Serve the API.

        Settings come from FLASHCLAIM_… variables, see docs/reference/settings.md.

        Example:  FLASHCLAIM_REDIS_URL=redis://… FLASHCLAIM_POSTGRES_URL=postgresql://… flashclaim serve --host 0.0.0.0
        """
        import uvicorn
        from uvicorn.supervisors import Multiprocess

        from api.gate import ClaimProtocol
        from engine.bounds import BACKLOG, KEEP_ALIVE_S
        from engine.rates.denied import read
        from engine.runtime.settings import load_settings

        if data is not None:
            os.environ["FLASHCLAIM_DATA"] = str(data)
        settings = load_settings(data)
        if settings.deny_file:
            read(settings.deny_file)  # a fault is told here, once, and not by each process that it would end
        with _metrics_dir(workers):
            config = uvicorn.Config(
                "cli.serve:app_from_environment",
                factory=True,
                host=host,
                port=port,
                workers=workers,
                loop="uvloop",
                http=ClaimProtocol,
                access_log=False,
                log_level="warning",
                forwarded_allow_ips=settings.trusted_proxies,
                timeout_keep_alive=KEEP_ALIVE_S,
                backlog=BACKLOG,
                timeout_graceful_shutdown=10,
                server_header=False,
            )
            first = config.bind_socket()
            listeners = [first, *(first.dup() for _ in range(LISTENERS - 1))]
            with suppress(KeyboardInterrupt):  # as uvicorn.run does
                if workers > 1:
                    Multiprocess(config, sockets=listeners).run()
                else:
                    uvicorn.Server(config).run(sockets=listeners)

    @app.command()
    def worker(
        name: Annotated[str | None, typer.Option(help="This worker's name; no two that live may share one.")] = None,
        metrics_port: Annotated[int, typer.Option(help="Port for Prometheus metrics; 0: none.", min=0)] = 0,
        data: DataDir = None,
    ) -> None:
        """Write decided claims into the ledger. Run one, or several for safety.

        Example:  flashclaim worker --name worker-1 --metrics-port 9101
        """
        from engine.runtime.settings import load_settings
        from engine.runtime.telemetry import configure_logs

        settings = load_settings(data)
        configure_logs(settings.log_format)
        if metrics_port:
            from prometheus_client import start_http_server

            start_http_server(metrics_port)
        asyncio.run(_work(settings, name or f"{socket.gethostname()}-{os.getpid()}"))

    @app.command()
    def migrate(data: DataDir = None) -> None:
        """Bring the ledger's tables to this version. Safe to run again, and by several at once."""
        from engine.ledger.migrations import migrate as bring_up
        from engine.ledger.migrations import newest
        from engine.runtime.connections import open_stores
        from engine.runtime.settings import load_settings

        async def run() -> None:
            async with open_stores(load_settings(data)) as stores:
                await bring_up(stores.ledger)

        asyncio.run(run())
        say(f"the ledger is at migration {newest()}")


@contextmanager
def _metrics_dir(workers: int) -> Iterator[None]:
    """Where several processes put their figures together, so that whichever is asked tells those of all."""
    if workers == 1:
        yield
        return
    from api.routes.operations import METRICS_DIR_VARIABLE

    with tempfile.TemporaryDirectory(prefix="fc-metrics-") as directory:
        os.environ[METRICS_DIR_VARIABLE] = directory
        yield


async def _work(settings: "Settings", name: str) -> None:
    from engine.ledger.persist import Persister
    from engine.runtime.connections import open_stores

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_stores(settings) as stores:
        await Persister(stores, settings.partitions, name).run(stop)


def app_from_environment() -> "FastAPI":
    """The app that uvicorn's processes build for themselves."""
    from pathlib import Path

    from api.app import create_app
    from engine.runtime.settings import load_settings
    from engine.runtime.telemetry import configure_logs

    data = os.environ.get("FLASHCLAIM_DATA")
    settings = load_settings(Path(data) if data else None)
    configure_logs(settings.log_format)
    return create_app(settings)
