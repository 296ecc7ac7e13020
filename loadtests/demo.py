"""`make demo`: the lychee rush on real servers, from nothing to a table in which every figure was counted.

Starts `flashclaim dev` in `.flashclaim/demo`, creates and launches examples/lychee-2025.yaml at demo speed through the
API, lets members rush it with locust, audits, prints. Exits 1 when a promise is broken. DEMO_MEMBERS makes it shorter.
"""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from cli.client import Client
from cli.options import print_table
from engine.drops.spec import parse_yaml, rescheduled
from engine.errors import FlashclaimError, Unavailable
from engine.runtime.servers import free_port, stop_process
from loadtests.config import RushConfig
from loadtests.runner import run_rush

ROOT = Path(__file__).parents[1]
DATA_DIR = Path(".flashclaim") / "demo"
MEMBERS, USERS = 20_000, 1_000
OPENS_IN_S, SPEED = 8.0, 1_500.0  # the 12 hours of the drop pass in 29 s, the second wave comes after 12 s
READY_S_MAX = 90.0


class DemoFailed(FlashclaimError):
    code = "demo-failed"


def main() -> int:
    """Run the demo; the exit code."""
    members = int(os.environ.get("DEMO_MEMBERS", str(MEMBERS)))
    started_s = time.monotonic()
    port = free_port()
    _say(f"flashclaim: {members} members rush for 31,000 jin of lychees. Logs are in {DATA_DIR}.")
    DATA_DIR.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have started us with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    with (DATA_DIR / "dev.log").open("wb") as log:
        command = [sys.executable, "-m", "cli", "dev", "--port", str(port), "--data", str(DATA_DIR)]
        # A session of its own: Ctrl-C reaches this process, which then stops the instance in order.
        instance = subprocess.Popen(command, cwd=Path.cwd(), stdout=log, stderr=log, start_new_session=True)
    try:
        return _demo(instance, port, members, started_s)
    except KeyboardInterrupt:
        _say("\nstopping everything")
        return 130
    except FlashclaimError as error:
        _say(f"demo: {error.detail}")
        return 1
    finally:
        stop_process(instance, grace_s=40)


def _demo(instance: "subprocess.Popen[bytes]", port: int, members: int, started_s: float) -> int:
    _wait_until_ready(instance, f"http://127.0.0.1:{port}")
    _say(f"ready after {time.monotonic() - started_s:.1f} s: Valkey, PostgreSQL, worker, API on port {port}")
    client = Client(DATA_DIR, None, None)
    drop_id = f"lychee-demo-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    spec = parse_yaml((ROOT / "examples" / "lychee-2025.yaml").read_text(encoding="utf-8"), "lychee-2025.yaml")
    spec = rescheduled(spec, datetime.now(UTC) + timedelta(seconds=OPENS_IN_S), SPEED)
    client.call("POST", "/v1/drops", spec.model_dump(mode="json", by_alias=True) | {"id": drop_id})
    client.call("POST", f"/v1/drops/{drop_id}/launch")
    stock = sum(item.stock for item in spec.items)
    _say(f"drop {drop_id}: {stock} boxes in {len(spec.waves)} waves, opens in {OPENS_IN_S:.0f} s")
    out_dir = DATA_DIR / "rush"
    config = RushConfig(drop_id, members, min(USERS, members), int(time.time()), 170, out_dir, DATA_DIR)
    _say(f"seed {config.seed}")
    rush = run_rush(config, str(client.url))
    rush["lag_s"] = _lag(drop_id, client, rush["accepted_claims"])
    report = _audit(drop_id, out_dir / "claims.jsonl")
    _print(stock, rush, report, members)
    is_kept = not report["differences"] and not rush["broken"] and report["in_ledger"] == report["accepted"]
    if rush["people"] < members:
        _say(f"only {rush['people']} of {members} members were done in time")
    _say(
        f"{time.monotonic() - started_s:.0f} s in all; {out_dir}/report.html shows the rush, claims.jsonl what was told"
    )
    return 0 if is_kept and report["accepted"] else 1


def _wait_until_ready(instance: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while time.monotonic() < deadline:
        if instance.poll() is not None:
            said = (DATA_DIR / "dev.log").read_text(errors="replace").strip().splitlines()
            raise DemoFailed(f"the instance did not start: {said[-1] if said else 'it said nothing'}")
        try:
            if (DATA_DIR / "dev.json").exists() and httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass  # not listening yet
        time.sleep(0.1)
    raise DemoFailed(f"the instance was not ready within {READY_S_MAX:.0f} s: see {DATA_DIR / 'dev.log'}")


def _lag(drop_id: str, client: Client, accepted: int) -> float:
    """Seconds from the end of the rush until the ledger had every claim."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < 60:
        try:
            if client.call("GET", f"/v1/drops/{drop_id}/report")["claims_in_ledger"] >= accepted:
                break
        except Unavailable:
            pass  # still busy with the rush: ask again
        time.sleep(0.05)
    return round(time.monotonic() - began_s, 2)


def _audit(drop_id: str, client_log: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "cli", "audit", drop_id, "--json", "--data", str(DATA_DIR)]
    done = subprocess.run([*command, "--client-log", str(client_log)], capture_output=True, text=True, check=False)
    if not done.stdout:
        raise DemoFailed(f"the audit did not run: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    for detail in found["details"][:20]:
        _say(detail)
    return found


def _print(stock: int, rush: dict[str, Any], report: dict[str, Any], members: int) -> None:
    refused = ", ".join(f"{code} {count}" for code, count in rush["refused"].items()) or "none"
    rows: list[list[object]] = [
        ["members", members],
        ["stock", stock],
        ["accepted", report["accepted"]],
        ["told to clients", report["told"]],
        ["oversold", report["oversold"]],
        ["over limit", report["over_limit"]],
        ["in ledger", report["in_ledger"]],
        ["lost", report["lost"]],
        ["differences", report["differences"]],
        ["ledger lag", f"{rush['lag_s']} s after the last answer"],
        ["accepted/s", f"{rush['accepted_per_s_peak']} in the busiest second"],
        ["claim p50 / p99", f"{rush['p50_ms']} / {rush['p99_ms']} ms, locust on the same machine"],
        ["same claim told again", rush["repeated"]],
        ["refused", refused],
        ["errors", sum(rush["errors"].values())],
    ]
    print_table("the lychee rush", ["figure", "counted"], rows)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
