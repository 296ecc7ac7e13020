"""Compares lua/claim.lua of two revisions on one Valkey: `python -m loadtests.scripts_ab main HEAD`.

Each revision is unpacked and driven by a process of its own, which packs claims and names keys as that revision does.
The rounds are interleaved, and each begins with an empty store. What is told is the median over the rounds: µs a claim
as the store counts the script (INFO commandstats), and as its main thread used the processor (INFO cpu).
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

BATCHES = {1: 2_000, 64: 200, 512: 30}  # claims in a batch → batches in a round
ROUNDS = 25
_AT_MS = 1_750_000_000_000
_ITEMS = 2


class Side:
    """One revision: its files, and the process that drives its script."""

    def __init__(self, revision: str, folder: Path, url: str) -> None:
        archive = subprocess.run(
            ["/usr/bin/env", "git", "archive", revision], stdout=subprocess.PIPE, check=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        self.revision = revision
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--drive", url],
            cwd=folder,
            env={"PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def round(self, size: int, batches: int) -> tuple[float, float]:
        """µs a claim by the script's own count, and of the store's processor."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(size, batches, file=self._process.stdin, flush=True)
        script_us, cpu_us = json.loads(self._process.stdout.readline())
        return script_us, cpu_us

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare(revisions: tuple[str, str], rounds: int) -> list[list[str]]:
    """The rows of the table: a batch's size, then for each of both counts old, new, and the median of new to old."""
    from engine.runtime.servers import EmbeddedValkey

    with tempfile.TemporaryDirectory(prefix="fc-ab-") as name:
        server = EmbeddedValkey(Path(name))
        server.start()
        sides = []
        try:
            for place, revision in enumerate(revisions):
                (folder := Path(name) / f"side-{place}").mkdir()
                sides.append(Side(revision, folder, server.url))
            return [_row(size, batches, sides, rounds) for size, batches in BATCHES.items()]
        finally:
            for side in sides:
                side.close()
            server.stop()


def _row(size: int, batches: int, sides: list[Side], rounds: int) -> list[str]:
    found: list[list[tuple[float, float]]] = [[], []]
    for number in range(rounds + 1):
        for place in (0, 1) if number % 2 else (1, 0):
            found[place].append(sides[place].round(size, batches))
    row = [str(size)]
    for count in (0, 1):
        old, new = ([figures[count] for figures in side[1:]] for side in found)  # the first warms up
        ratio = statistics.median(b / a for a, b in zip(old, new, strict=True))
        row += [f"{statistics.median(old):.2f}", f"{statistics.median(new):.2f}", f"{(ratio - 1) * 100:+.1f}%"]
    return row


def drive(url: str) -> None:
    """Run the rounds that standard input asks for, by the scripts of the revision that is imported here."""
    from redis import Redis

    with Redis.from_url(url) as redis:
        redis.config_set("appendonly", "no")  # it costs both the same, and much of what a disk does is chance
        for line in sys.stdin:
            size, batches = map(int, line.split())
            print(json.dumps(_drive(redis, size, batches)), flush=True)


def _drive(redis: Any, size: int, batches: int) -> tuple[float, float]:
    redis.flushall()
    given = _drop(redis)
    redis.config_resetstat()
    claim, before = _call("claim", given), _cpu_s(redis)
    for batch in _packed(size, batches):
        replies = redis.evalsha(claim[0], *claim[1:], *batch)
        if not isinstance(replies[3], int):
            raise SystemExit(f"a claim was refused: {replies[3]!r}")
    stats = redis.info("commandstats")["cmdstat_evalsha"]
    claims = size * batches
    return stats["usec"] / claims, (_cpu_s(redis) - before) * 1e6 / claims


def _drop(redis: Any) -> dict[str, Any]:
    """Make a plain drop that is open; by their names what the scripts of this revision may ask for."""
    import lua
    from engine.claims import keys
    from engine.drops.model import Drop, Status, from_ms, store_fields
    from engine.drops.spec import DropSpec

    items = [{"id": f"box-{n}", "title": {"en": "Box"}, "stock": 10_000_000} for n in range(_ITEMS)]
    spec: dict[str, Any] = {
        "id": "bench",
        "title": {"en": "Bench"},
        "organisation": "dongguan",
        "allocation": "rush",
        "items": items,
    }
    spec |= {"opens_at": from_ms(_AT_MS), "closes_at": from_ms(_AT_MS * 2), "limit_per_member": 1}
    drop = Drop(DropSpec.model_validate(spec), Status.LAUNCHED, 1, 1)
    given: dict[str, Any] = {"home": "bench", "drop_id": "bench", "epoch": 1, "told": 0, "relatives": ""}
    given |= {"drop_key": keys.drop(0, "bench"), "claims_key": keys.claims(0, "bench"), "home_key": keys.home(0)}
    given |= {"outbox_key": keys.outbox(0), "told_key": keys.told(0)}
    for name in ("tally", "prizes"):
        if hasattr(keys, name):
            given[f"{name}_key"] = getattr(keys, name)(0, "bench")
    given |= {"revision": 1, "act": "act", "control": "{}", "prizes": b""}
    redis.set(given["home_key"], "bench")
    fields = [part for pair in store_fields(drop, 1, 0).items() for part in pair]
    for script in ("claim", "control"):
        redis.script_load(lua.load(script).text)
    sha, *rest = _call("control", given)
    if not redis.evalsha(sha, *rest, *fields).startswith(b"applied"):
        raise SystemExit("the drop was not made")
    return given


def _call(script: str, given: dict[str, Any]) -> tuple[Any, ...]:
    """A script's sha, and all of its keys and arguments but the rest, which its head ends in dots."""
    import lua

    found = lua.load(script)
    keys, arguments = ([given[name] for name in names if name[-1] != "…"] for names in (found.keys, found.arguments))
    return (found.sha, len(keys), *keys, *arguments)


def _packed(size: int, batches: int) -> list[list[bytes]]:
    from engine.claims.wire import ClaimRequest, pack_request

    window = bytes(6) + (_AT_MS * 2).to_bytes(6, "big")
    return [
        [
            window + pack_request(ClaimRequest(number.to_bytes(8, "big"), number % _ITEMS + 1, 1, member, member))
            for number in range(batch * size, (batch + 1) * size)
            for member in (f"member-{number:08d}",)
        ]
        for batch in range(batches)
    ]


def _cpu_s(redis: Any) -> float:
    found = redis.info("cpu")
    return float(found["used_cpu_user_main_thread"]) + float(found["used_cpu_sys_main_thread"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("revisions", nargs="*", default=["main", "HEAD"], help="the old one and the new one")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--drive", metavar="URL", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.drive:
        drive(asked.drive)
        return
    if len(asked.revisions) != 2 or asked.rounds < 1:
        parser.error("name two revisions, and at least one round")
    old, new = asked.revisions
    print(f"µs a claim, medians of {asked.rounds} rounds", file=sys.stderr)
    print("\t".join(["batch", *(f"{what} {of}" for what in ("script", "cpu") for of in (old, new, "new to old"))]))
    for row in compare((old, new), asked.rounds):
        print("\t".join(row))


if __name__ == "__main__":
    main()
