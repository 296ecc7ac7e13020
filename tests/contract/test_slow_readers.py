"""The promise: a client that does not read its answers holds up nobody else, and the process keeps little for it."""

import asyncio
import socket

import pytest

from tests.contract.front import Front, claim_request, told
from tests.contract.line import Line, request

PADDING = ("X-Padding", "a" * 2_000)
TIMES = 1_000
HIGH_WATER_BYTES = 65_536  # asyncio's and uvloop's: from here on a transport asks its protocol to stop


async def slow_line(front: Front) -> Line:
    """A line whose buffers in the kernel are small, so that few answers fill them."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
    client.settimeout(0)
    await front.loop.sock_connect(client, ("127.0.0.1", front.port))
    line = await front.line(sock=client, limit=1_024)
    server_side: socket.socket = front.protocol(line).transport.get_extra_info("socket")
    server_side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
    return line


async def until_no_more_is_answered(front: Front, line: Line) -> None:
    protocol, answered = front.protocol(line), -1
    async with asyncio.timeout(5):
        while not protocol.flow.write_paused or answered != front.server.server_state.total_requests:
            assert not protocol.transport.is_closing(), "the server closed on a client that sent nothing wrong"
            answered = front.server.server_state.total_requests
            await asyncio.sleep(0.03)


@pytest.mark.parametrize("of", ["claims", "refusals", "tickets", "all kinds"])
async def test_a_client_that_does_not_read_is_not_read_either(front: Front, of: str) -> None:
    await front.launched(limit=5)
    tickets = await front.tickets(2)
    kinds = {
        "claims": [claim_request(tickets[0], headers=[PADDING])],
        "refusals": [claim_request("nonsense", headers=[PADDING])],
        "tickets": [request("POST", "/v1/drops/trial/ticket", [front.bearer(), PADDING])],
    }
    kinds["all kinds"] = [*(kind[0] for kind in kinds.values()), request("GET", "/v1/drops/trial", [PADDING])]
    data = kinds[of]
    line = await slow_line(front)
    protocol = front.protocol(line)
    many = b"".join(data) * (TIMES // len(data))
    line.send_unread(many)
    await until_no_more_is_answered(front, line)
    told(await front.ask(claim_request(tickets[1])), 201)
    for _ in range(10):
        told(await front.ask(claim_request(tickets[1])), 200)
    assert protocol.transport.get_write_buffer_size() < HIGH_WATER_BYTES + 10_000
    line.send_unread(many)
    await asyncio.sleep(0.05)  # what can be read at once has been read: the rest is left to the kernels
    waiting = len(protocol.pipeline)
    line.send_unread(many)
    await asyncio.sleep(0.05)
    assert (protocol.flow.read_paused, protocol.flow.write_paused) == (True, True)
    assert len(protocol.pipeline) == waiting
    statuses = [(await line.read()).status for _ in range(TIMES)]
    expected = {"claims": {200, 201}, "refusals": {401}, "tickets": {200}, "all kinds": {200, 201, 401}}
    assert set(statuses) == expected[of]
