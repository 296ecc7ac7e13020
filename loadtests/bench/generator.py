"""A load generator of our own: one thread, plain sockets, epoll. Closed loop without a rate, open loop with one.

In the open loop a request is due at its time whether the server keeps up or not, and its latency counts from then, so
that a server that stalls cannot hide it ("coordinated omission", Gil Tene, https://github.com/giltene/wrk2).
"""

import gc
import json
import select
import socket
import sys
import time
from collections import Counter, deque
from itertools import islice
from pathlib import Path
from time import perf_counter

from loadtests.bench.plan import Plan

LINGER_S = 5.0  # after the last request is sent, for answers that are still to come
TICK_S = 0.001
SETTLE_S = 0.3  # for the server to take in the connections


class Generator:
    """Sends a plan's requests to a loopback port over a number of connections, one at a time on each."""

    def __init__(self, plan: Plan, port: int, connections: int) -> None:
        self._head, self._tail = plan.head.encode(), plan.tail.encode()
        self._tokens = iter(plan.tokens.read_bytes().split())
        self._poll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        self._due_s: dict[int, float] = {}  # of the request that is on its way, by connection
        self._parts: dict[int, bytes] = {}  # of an answer that came in pieces
        self.statuses: Counter[int] = Counter()
        self.latencies_s: dict[int, list[float]] = {}
        for _ in range(connections):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)  # noqa: FBT003
            self._poll.register(connection, select.EPOLLIN)
            self._open[connection.fileno()] = connection
        self._idle = deque(self._open)

    def run(self, seconds: float, rate: float | None) -> float:
        """Send for so long; the seconds from the first request to the last answer."""
        began_s = perf_counter()
        end_s, sent = began_s + seconds, 0
        last_s = began_s
        while True:
            now_s = perf_counter()
            if now_s < end_s:
                due = len(self._idle) if rate is None else int((now_s - began_s) * rate) - sent
                wanted = min(due, len(self._idle))
                tokens = list(islice(self._tokens, wanted))
                for token in tokens:
                    self._send(token, now_s if rate is None else began_s + sent / rate)
                    sent += 1
                if len(tokens) < wanted:
                    end_s = now_s  # each token is used once
            elif not self._due_s or now_s > end_s + LINGER_S:
                break
            for file_number, _ in self._poll.poll(TICK_S):
                self._receive(file_number)
            if self._due_s:
                last_s = perf_counter()
        if rate is not None:
            self.statuses[0] += max(0, int((end_s - began_s) * rate) - sent)  # no connection was free for them
        self.statuses[0] += len(self._due_s)
        return last_s - began_s

    def _send(self, token: bytes, due_s: float) -> None:
        file_number = self._idle.popleft()
        self._due_s[file_number] = due_s
        self._open[file_number].send(self._head + token + self._tail)

    def _receive(self, file_number: int) -> None:
        data = self._open[file_number].recv(65_536)
        if not data:
            self._poll.unregister(file_number)
            self._due_s.pop(file_number, None)
            self.statuses[0] += 1
            return
        data = self._parts.pop(file_number, b"") + data
        head_end = data.find(b"\r\n\r\n") + 4
        length_at = data.find(b"ontent-", 0, head_end)
        while length_at >= 0 and data[length_at + 7 : length_at + 14].lower() != b"length:":
            length_at = data.find(b"ontent-", length_at + 7, head_end)
        if head_end < 4 or len(data) < head_end + int(data[length_at + 14 : data.index(b"\r", length_at)]):
            self._parts[file_number] = data
            return
        status = int(data[9:12])
        self.statuses[status] += 1
        self.latencies_s.setdefault(status, []).append(perf_counter() - self._due_s.pop(file_number))
        self._idle.append(file_number)


def main(arguments: list[str]) -> None:
    """Run as a process of its own; prints counts by status, and latencies in ms by status, as JSON."""
    head, tail, tokens, port, connections, seconds, rate = arguments
    generator = Generator(Plan(head, tail, Path(tokens)), int(port), int(connections))
    time.sleep(SETTLE_S)
    gc.disable()  # a collection here would be measured as a stall of the server
    took_s = generator.run(float(seconds), float(rate) or None)
    latencies = {
        status: [round(value * 1000, 3) for value in values] for status, values in generator.latencies_s.items()
    }
    json.dump({"seconds": took_s, "statuses": generator.statuses, "latencies_ms": latencies}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
