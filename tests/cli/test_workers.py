"""The promise: several API processes share one port; one that dies is replaced, and the figures are those of all."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from engine.runtime.servers import free_port, stop_process
from tests.cli.test_commands import Terminal

EXAMPLE = Path(__file__).parents[2] / "examples" / "lychee-2025.yaml"
CLAIMS = re.compile(r'^flashclaim_http_answers_total\{route="/v1/drops/\{drop_id\}/claims",status="201"\} (\S+)', re.M)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path_factory.mktemp("workers"), free_port(), "--workers", "2")
    yield terminal
    stop_process(terminal.process)
    terminal.close()


def workers(terminal: Terminal) -> set[int]:
    """The processes that serve: children of the API's process that hold the port."""
    parent = json.loads((terminal.data_dir / "dev.json").read_text())["pids"]["api"]
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def test_a_rush_on_two_processes_is_exact_and_counted_whichever_is_asked(terminal: Terminal) -> None:
    terminal.good("drop", "create", str(EXAMPLE), "--id", "shared", "--opens-in", "1", "--speed", "1000")
    terminal.good("drop", "launch", "shared")
    rush = json.loads(terminal.good("rush", "shared", "--members", "400", "--users", "100", "--json"))
    log = str(terminal.data_dir / "rush" / "shared" / "claims.jsonl")
    report = json.loads(terminal.good("audit", "shared", "--client-log", log, "--json"))
    assert report["accepted"] == report["told"] == rush["accepted_claims"] > 0
    assert report["differences"] == 0
    time.sleep(1.5)  # answers are counted in the process and told to the metric once a second
    url = f"http://127.0.0.1:{terminal.port}/metrics"
    counts = {float(found[1]) for _ in range(8) if (found := CLAIMS.search(httpx.get(url).text))}
    assert counts == {rush["accepted"]}


def test_a_process_that_is_killed_is_replaced(terminal: Terminal) -> None:
    before = workers(terminal)
    assert len(before) == 2
    os.kill(min(before), signal.SIGKILL)
    url = f"http://127.0.0.1:{terminal.port}/readyz"
    deadline = time.monotonic() + 20
    while not (len(now := workers(terminal)) == 2 and now != before):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    answers = [httpx.get(url, timeout=20).status_code for _ in range(10)]
    assert answers == [200] * 10
