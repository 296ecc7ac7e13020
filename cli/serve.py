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

from cli.options import DataDir, operator, say

if TYPE_CHECKING:
    from pathlib import Path

    import uvicorn
    from fastapi import FastAPI

    from engine.runtime.connections import Stores
    from engine.runtime.settings import Settings


def register(app: typer.Typer) -> None:
    for command in (serve, worker, migrate):
        app.command()(command)


def serve(
    host: Annotated[str, typer.Option(help="Address, or a name: all its addresses.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65_535)] = 8000,
    workers: Annotated[int, typer.Option(help="Processes that share the port.", min=1, max=64)] = 1,
    data: DataDir = None,
) -> None:
    """Serve the API.

    Settings come from FLASHCLAIM_… variables, see docs/reference/settings.md.

    Example:  FLASHCLAIM_REDIS_URL=redis://… FLASHCLAIM_POSTGRES_URL=postgresql://… flashclaim serve --host 0.0.0.0
    """
    from cli import listeners
    from engine.rates.denied import read
    from engine.runtime.settings import load_settings
    from engine.runtime.telemetry import configure_logs

    if data is not None:
        os.environ["FLASHCLAIM_DATA"] = str(data)
    settings = load_settings(data)
    configure_logs(settings.log_format)
    if settings.deny_file:
        read(settings.deny_file)  # a fault is told here, once, and not by each process that it would end
    asyncio.run(_check(settings))
    _warn(settings)
    config = _server_config(settings, workers)
    with _metrics_dir(workers), suppress(KeyboardInterrupt):  # as uvicorn.run does
        _run(config, listeners.bind(host, port))


def worker(
    name: Annotated[str | None, typer.Option(help="This worker's name; no two that live may share one.")] = None,
    metrics_port: Annotated[int, typer.Option(help="Port for Prometheus metrics; 0: none.", min=0)] = 0,
    data: DataDir = None,
) -> None:
    """Write decided claims into the ledger, and reconcile it with the store. Run one, or several for safety.

    Example:  flashclaim worker --name worker-1 --metrics-port 9101
    """
    from engine.runtime.settings import load_settings
    from engine.runtime.telemetry import configure_logs

    settings = load_settings(data)
    configure_logs(settings.log_format)
    if metrics_port:
        from prometheus_client import start_http_server

        start_http_server(metrics_port)
    asyncio.run(_work(settings, name or f"{socket.gethostname()}-{os.getpid()}", data))


def migrate(
    to: Annotated[str | None, typer.Option(metavar="REVISION", help="Forward or back to this one.")] = None,
    lose_data: Annotated[
        bool, typer.Option("--lose-data", help="Allow a step back; docs/how-to.md says what each one loses.")
    ] = False,
    data: DataDir = None,
) -> None:
    """Bring the ledger's tables to this version, while claims go on. Safe to run again, and by several at once.

    A step is an act with its row; one back to tables without a chained record of acts cannot be.

    Example:  flashclaim migrate --to 0001 --lose-data
    """
    from engine.ledger.migrations import is_chained
    from engine.ledger.migrations import migrate as bring
    from engine.runtime.connections import open_stores
    from engine.runtime.settings import load_settings

    async def run() -> str:
        async with open_stores(load_settings(data)) as stores:
            return await bring(stores.ledger, to, may_lose_data=lose_data, actor=operator())

    revision = asyncio.run(run())
    say(f"the ledger is at migration {revision}")
    if not is_chained(revision):
        say("no row was written: at this migration there is no chained record of acts, and the one before is gone")


def _warn(settings: "Settings") -> None:
    """Say once, and not in each process, what the settings give up."""
    import structlog

    from engine.runtime.doctor import partition_findings

    for finding in partition_findings(settings):
        structlog.get_logger(__name__).warning(finding.what, advice=finding.advice)


def _server_config(settings: "Settings", workers: int) -> "uvicorn.Config":
    import uvicorn

    from api.gate import ClaimProtocol
    from engine.bounds import BACKLOG, KEEP_ALIVE_S

    return uvicorn.Config(
        "cli.serve:app_from_environment",
        factory=True,
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


def _run(config: "uvicorn.Config", listening: list[socket.socket]) -> None:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    if config.workers > 1:
        Multiprocess(config, sockets=listening).run()
    else:
        uvicorn.Server(config).run(sockets=listening)


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


async def _work(settings: "Settings", name: str, data_dir: "Path | None") -> None:
    from engine.ledger.erase import Erasures
    from engine.ledger.ingest import writer_of
    from engine.ledger.persist import Persister
    from engine.ledger.reconcile import Reconciler
    from engine.runtime import keyfile
    from engine.runtime.connections import open_stores
    from engine.runtime.settings import load_settings

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_stores(settings) as stores:
        await _refuse_unsafe(stores)
        worker = Persister(stores.redis, writer_of(stores.ledger), settings.partitions, name)

        def take_up_keys() -> None:
            stores.dealer.use_keys(load_settings(data_dir).instant_keyring)

        async with asyncio.TaskGroup() as group:
            if data_dir is not None:
                group.create_task(keyfile.watch(data_dir, stop, take_up_keys))
            group.create_task(worker.run(stop))
            group.create_task(Reconciler(stores, settings.partitions).run(stop))
            group.create_task(Erasures(stores, settings.partitions).run(stop))


async def _check(settings: "Settings") -> None:
    from engine.runtime.connections import open_stores

    async with open_stores(settings) as stores:
        await _refuse_unsafe(stores)


async def _refuse_unsafe(stores: "Stores") -> None:
    """Stop the start when the store breaks the durability that is promised; one that is away may come."""
    from engine.claims.model import StoreUnavailable

    with suppress(StoreUnavailable):
        await stores.scripts.check()


def app_from_environment() -> "FastAPI":
    """The app that uvicorn's processes build for themselves."""
    from pathlib import Path

    from api.app import create_app
    from engine.runtime.settings import load_settings
    from engine.runtime.telemetry import configure_logs

    data = os.environ.get("FLASHCLAIM_DATA")
    data_dir = Path(data) if data else None
    settings = load_settings(data_dir)
    configure_logs(settings.log_format)
    return create_app(settings, data_dir)
