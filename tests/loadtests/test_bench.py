"""The promise: the bench counts what was answered, from when it was due, and what the processes really used."""

import asyncio
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.bench import plan
from loadtests.bench.generator import Generator
from loadtests.bench.meter import Load, cpu_s
from loadtests.bench.plan import Plan
from loadtests.bench.report import GOALS, Found, as_json, chart, ratios, tables
from loadtests.bench.rounds import OpenRound, Round
from loadtests.bench.whole import FullRate

ANSWER = b"HTTP/1.1 201 Created\r\nX: y\r\nContent-Length: 4\r\n\r\nbody"


@contextmanager
def server(
    answer: bytes = ANSWER, stall_s: float = 0.0, *, in_pieces: bool = False
) -> Iterator[tuple[int, list[bytes]]]:
    """A server in a thread of its own, and the requests that it saw; it stalls once, at its tenth request."""
    seen: list[bytes] = []
    transports: list[asyncio.Transport] = []
    loop = asyncio.new_event_loop()
    listener = socket.create_server(("127.0.0.1", 0))

    class Serve(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport
            transports.append(transport)

        def data_received(self, data: bytes) -> None:
            seen.append(data)
            if len(seen) == 10:
                time.sleep(stall_s)
            if in_pieces:
                self.transport.write(answer[:30])
                loop.call_later(0.001, self.transport.write, answer[30:])
            else:
                self.transport.write(answer)

    def end() -> None:
        made.close()
        for transport in transports:
            transport.abort()
        loop.call_later(0.05, loop.stop)  # a closed transport needs a turn of the loop to be gone

    made = loop.run_until_complete(loop.create_server(Serve, sock=listener))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield listener.getsockname()[1], seen
    finally:
        loop.call_soon_threadsafe(end)
        thread.join()
        loop.close()


def written(directory: Path, count: int) -> Plan:
    return plan.write("/x", "Token: ", [f"{number:08}" for number in range(count)], directory / "tokens")


def close(generator: Generator) -> None:
    for connection in generator._open.values():
        connection.close()
    generator._poll.close()


@pytest.mark.parametrize("in_pieces", [False, True])
def test_each_token_is_sent_once_and_each_answer_is_counted(tmp_path: Path, *, in_pieces: bool) -> None:
    with server(in_pieces=in_pieces) as (port, seen):
        generator = Generator(written(tmp_path, 500), port, 8)
        generator.run(10, None)
        close(generator)
    assert generator.statuses == {201: 500, 0: 0}
    assert len(generator.latencies_s[201]) == 500
    tokens = sorted(data.split(b"Token: ")[1][:8] for data in seen)
    assert tokens == [b"%08d" % number for number in range(500)]


def test_a_stall_is_counted_from_when_each_request_was_due(tmp_path: Path) -> None:
    """Coordinated omission: a closed loop would count the stall once, the open loop counts all who waited."""
    with server(stall_s=0.4) as (port, _):
        generator = Generator(written(tmp_path, 10_000), port, 4)
        generator.run(1, 1_000)
        close(generator)
    waited = [latency for latency in generator.latencies_s[201] if latency > 0.1]
    assert len(waited) > 200
    assert sum(generator.statuses.values()) >= 999


def test_refusals_and_broken_lines_are_no_acceptances(tmp_path: Path) -> None:
    with server(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n") as (port, _):
        generator = Generator(written(tmp_path, 50), port, 2)
        generator.run(10, None)
        close(generator)
    assert generator.statuses == {503: 50, 0: 0}


def test_the_middle_of_a_request_is_in_its_token(tmp_path: Path) -> None:
    made = plan.write("/v1/drops/x/claims", "Authorization: Ticket ", ["A" * 100], tmp_path / "tokens")
    whole = made.head + "A" * 100 + made.tail
    assert whole[len(whole) // 2 - 2 : len(whole) // 2 + 2] == "AAAA"
    assert whole.endswith("\r\nContent-Length: 0\r\n\r\n")


def test_a_plan_is_split_without_losing_a_token(tmp_path: Path) -> None:
    first, rest = written(tmp_path, 10).split(3)
    assert len(first.tokens.read_text().split()) == 3
    assert len(rest.tokens.read_text().split()) == 7


def test_cpu_time_is_that_of_the_processes() -> None:
    before_s = cpu_s([os.getpid()])
    until_s = time.process_time() + 0.1
    while time.process_time() < until_s:
        pass
    assert 0.05 < cpu_s([os.getpid()]) - before_s < 2


def found() -> Found:
    load = Load(1.0, 1_000, 0, 0, 1.0, 2.0, 3.0)
    ours, usual = Round(load, 10.0, 5.0, 60.0), Round(replace(load, accepted=100), 150.0, 30.0, None)
    half = {"bare": [OpenRound(500, load)], "ours": [OpenRound(500, replace(load, p99_ms=3.0))]}
    closed = {"bare": [Round(load, 20.0, 0.0, None)], "usual": [usual], "ours": [ours]}
    whole = FullRate(900.0, 0.01, 0.02, 0.03, 1_000)
    return Found(closed, half, [OpenRound(500, load)], 4_000.0, 10.0, 500.0, whole, {"nginx_lua": "no"}, "c", "now")


def test_the_ratios_are_what_their_names_say() -> None:
    assert ratios(found()) == {
        "cpu_usual": 12.0, "rps_bare": 1.0, "rps_usual": 10.0, "p99_bare": 1.5, "bytes_per_claim": 60.0,
        "ledger_rate": 4.0,
    }  # fmt: skip
    assert set(ratios(found())) | {"cpu_nginx_lua"} == set(GOALS)


def test_what_was_found_becomes_json_tables_and_a_chart_that_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    assert as_json(found())["skipped"] == {"nginx_lua": "no"}
    for _, columns, rows in tables(found()):
        assert all(len(row) == len(columns) for row in rows)
    chart(found(), tmp_path / "chart.svg")
    drawn = (tmp_path / "chart.svg").read_text()
    assert ">150.0 + 30.0<" in drawn
    assert set(re.findall(r"https?://[^\"]+", drawn)) == {"http://www.w3.org/2000/svg"}
