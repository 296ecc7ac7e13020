"""Says what runs, in which version, which settings are unsafe, and what to do about each."""

import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.claims import durability, keys
from engine.claims.durability import Durability
from engine.claims.outbox import GROUP
from engine.ledger import homes, migrations
from engine.runtime.connections import LEDGER_AWAY, Stores, open_redis
from engine.runtime.keyfile import KEYS_FILE
from engine.runtime.settings import Settings
from engine.runtime.telemetry import without_secrets
from engine.schedule import store as schedule
from engine.schedule.store import Outlook

Level = Literal["ok", "warning", "error"]

OPEN_FILES_MIN = 4_096  # each member's connection is one
FREE_DISK_BYTES_MIN = 1_000_000_000
OUTBOX_WAITING_MAX = 10_000  # entries; 5 million claims at the most
SCHEDULE_LATE_S_MAX = 10.0  # a worker looks twice a second
STORE_VERSION_MIN, LEDGER_VERSION_MIN = (7, 0), 14


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` is empty when it is as it should be."""

    level: Level
    what: str
    advice: str = ""


async def diagnose(settings: Settings, stores: Stores, data_dir: Path | None) -> list[Finding]:
    """Look at everything; a part that is away is a finding, not an exception."""
    return [
        *await _store(stores.redis, settings),
        *await _ledger(stores.ledger),
        *await _schedule(stores.ledger),
        *await _homes(stores, settings.partitions),
        *await _rates(settings),
        *_machine(data_dir or Path()),
        *_secrets(data_dir),
        *_sessions(settings),
        *partition_findings(settings),
    ]


async def _store(redis: "Redis", settings: Settings) -> list[Finding]:
    try:
        info: dict[str, Any] = await redis.info()
        config: Mapping[Any, Any] = await redis.config_get("*")
    except (RedisError, OSError) as error:
        return [
            Finding(
                "error",
                f"the store does not answer: {without_secrets(str(error))}",
                "start it, or correct FLASHCLAIM_REDIS_URL",
            )
        ]
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version", info["redis_version"]))
    found = [Finding("ok", f"{name} {version}, {info['used_memory_human']} in use")]
    if tuple(int(part) for part in version.split(".")[:2]) < STORE_VERSION_MIN:
        found = [Finding("error", f"{name} {version} is too old", "use Redis 7.0, Valkey 7.2 or newer")]
    told = {_text(name): _text(value) for name, value in config.items()}
    found += durability_findings(told, settings.promised, str(info["role"]))
    for partition in range(settings.partitions):
        found += await _outbox(redis, keys.outbox(partition))
    return found


async def _homes(stores: Stores, partitions: int) -> list[Finding]:
    """Whether the store may decide: it was compared with the ledger since it was started, and the ledger names it."""
    try:
        home = str((await stores.redis.info("replication"))["master_replid"])
        compared = [_text(await stores.redis.get(keys.home(partition)) or "") for partition in range(partitions)]
        async with stores.ledger.connect() as connection:
            named = await homes.read(connection)
    except (RedisError, *LEDGER_AWAY):
        return []  # told above
    return [
        finding
        for partition in range(partitions)
        for finding in home_findings(partition, home, compared[partition], named.get(partition, ""))
    ]


def home_findings(partition: int, home: str, compared: str, named: str) -> list[Finding]:
    """Whether a store may decide in a partition; `compared` is the one last compared, `named` the ledger's word."""
    if compared == named == home:
        return []
    advice = "start `flashclaim worker`: it compares the store with the ledger; until then nothing is given out"
    if compared != home:
        return [Finding("error", f"partition {partition}: this store was not compared with the ledger", advice)]
    other = f"another store, {named[:8]}" if named else "no store"
    return [Finding("error", f"partition {partition}: this is store {home[:8]}, the ledger names {other}", advice)]


def durability_findings(config: Mapping[str, str], promised: Durability, role: str) -> list[Finding]:
    """Whether the store's settings keep what the durability level promises."""
    found = [Finding("error", fault.found, fault.advice) for fault in durability.faults(promised, role, config)]
    if promised.level == "memory":
        found.append(
            Finding("warning", "durability is `memory`: a crash of the store loses claims that members were told of")
        )
    return found or [Finding("ok", f"the store's settings keep the durability `{promised.level}`")]


async def _outbox(redis: "Redis", stream: str) -> list[Finding]:
    try:
        groups: list[dict[str, Any]] = await redis.xinfo_groups(stream)
    except ResponseError:
        return [Finding("ok", f"{stream}: empty, nothing was decided yet")]
    for group in groups:
        if group["name"] == GROUP.encode():
            waiting = int(group["pending"]) + int(group["lag"] or 0)
            if waiting > OUTBOX_WAITING_MAX:
                return [Finding("error", f"{stream}: {waiting} entries wait", "start more workers, see their log")]
            return [Finding("ok", f"{stream}: {waiting} entries wait for the ledger")]
    return [Finding("error", f"{stream}: no worker has ever read it", "start `flashclaim worker`")]


async def _rates(settings: Settings) -> list[Finding]:
    if settings.rates_redis_url is None:
        return []
    redis = open_redis(settings.rates_redis_url, "rates_redis_url")
    try:
        config: Mapping[Any, Any] = await redis.config_get("appendonly")
    except (RedisError, OSError) as error:
        advice = "start it, or correct FLASHCLAIM_RATES_REDIS_URL; until then each process counts alone"
        return [Finding("warning", f"the rates' store does not answer: {error}", advice)]
    finally:
        await redis.aclose()
    if [_text(value) for value in config.values()] == ["yes"]:
        return [Finding("warning", "the rates' store writes each count to disk", "set `appendonly no` there")]
    return [Finding("ok", "the rates' store answers")]


async def _ledger(ledger: AsyncEngine) -> list[Finding]:
    try:
        async with ledger.connect() as connection:
            version = int(await connection.scalar(text("show server_version_num"))) // 10_000
            is_synced = await connection.scalar(text("show fsync")) == "on"
            waits = await connection.scalar(text("show synchronous_commit")) != "off"
        current = await migrations.current(ledger)
        buried = await _buried(ledger) if current else 0
    except (SQLAlchemyError, OSError) as error:
        advice = "start it, or correct FLASHCLAIM_POSTGRES_URL"
        return [Finding("error", f"the ledger does not answer: {without_secrets(str(error))[:120]}", advice)]
    found = [Finding("ok", f"PostgreSQL {version}")]
    if version < LEDGER_VERSION_MIN:
        found = [Finding("error", f"PostgreSQL {version} is too old", f"use {LEDGER_VERSION_MIN} or newer")]
    if not (is_synced and waits):
        advice = "set fsync and synchronous_commit on: claims are trimmed from the outbox once they are committed"
        found.append(Finding("error", "PostgreSQL may lose what it has committed", advice))
    if current == migrations.newest():
        found.append(Finding("ok", f"the ledger is at migration {current}"))
    elif migrations.is_known(current):
        found.append(Finding("error", f"the ledger is at migration {current}", "run `flashclaim migrate`"))
    else:
        advice = "use the version that made it: workers of this one wait"
        found.append(Finding("error", f"the ledger is at migration {current}, which is newer", advice))
    if buried:
        found.append(Finding("error", f"{buried} dead letters", "read the table dead_letters: each has its reason"))
    return found


async def _schedule(ledger: AsyncEngine) -> list[Finding]:
    """Whether what is due gets done."""
    try:
        async with ledger.connect() as connection:
            if await migrations.at(connection) != migrations.newest():
                return []  # told above
            found = await schedule.outlook(connection)
    except LEDGER_AWAY:
        return []
    return schedule_findings(found)


def schedule_findings(found: Outlook) -> list[Finding]:
    """What is to be said of how the schedule stands."""
    findings = []
    if found.failed:
        advice = "see `flashclaim schedule list --state failed`, then `schedule retry` or `cancel` each"
        findings.append(Finding("error", f"{found.failed} jobs of the schedule have failed", advice))
    if found.late_s > SCHEDULE_LATE_S_MAX:
        advice = "start `flashclaim worker`, or see its log; `flashclaim schedule list --state waiting` names the jobs"
        findings.append(Finding("error", f"the schedule is {found.late_s:.0f} s late", advice))
    return findings or [Finding("ok", "the schedule is on time")]


async def _buried(ledger: AsyncEngine) -> int:
    async with ledger.connect() as connection:
        return int(await connection.scalar(text("select count(*) from dead_letters")) or 0)


def _machine(place: Path) -> list[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = [Finding("ok", f"{soft} open files allowed")]
    if soft < OPEN_FILES_MIN:
        found = [Finding("warning", f"only {soft} open files allowed", f"`ulimit -n {min(hard, 65_536)}` before serve")]
    free = shutil.disk_usage(place if place.exists() else Path()).free
    if free < FREE_DISK_BYTES_MIN:
        return [
            *found,
            Finding("error", f"only {free // 10**6} MB of disk free", "make room: a full disk stops claims"),
        ]
    return [*found, Finding("ok", f"{free // 10**9} GB of disk free")]


def _secrets(data_dir: Path | None) -> list[Finding]:
    """A keys file that others can read stops every command before it comes here."""
    if data_dir is None or not (data_dir / KEYS_FILE).exists():
        return []
    return [Finding("ok", f"{KEYS_FILE} is readable by its owner alone")]


def _sessions(settings: Settings) -> list[Finding]:
    """Whether only tokens that are meant for us are sessions here."""
    missing = [name for name in ("session_issuer", "session_audience") if getattr(settings, name) is None]
    if settings.session_jwks_url is None or not missing:
        return []
    advice = f"set {' and '.join(missing)}: else any token of that provider, made for whatever service, signs in here"
    return [Finding("warning", "session tokens are not bound to this service", advice)]


def partition_findings(settings: Settings) -> list[Finding]:
    """Whether a promise is given up by the number of partitions; `serve` says it at its start as well."""
    if settings.partitions == 1:
        return []
    what = f"partitions is {settings.partitions}: one of them may say sold out while another has stock"
    advice = (
        "set up new systems with 1: with more, promise 9 (sold out is true when it is said) is not kept, for stock is"
        " not moved between partitions yet; in a system that has claims leave it as it is"
    )
    return [Finding("warning", what, advice)]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
