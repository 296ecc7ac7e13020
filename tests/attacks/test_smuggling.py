"""The promise: what may be read as two requests by a proxy before us, or as one by us, is refused whole or is one.

Through a real socket, at the gate and at the twin route. Two lengths, a length beside chunks, lengths and chunks that
are none, spaces before the colon, folded lines, NUL: tests/contract/test_malformed.py. Here is what is left.
"""

import pytest

from tests.attacks.conftest import answers_to
from tests.contract.conftest import Start
from tests.contract.front import Front, claim_request
from tests.contract.line import request

JSON = "Content-Type: application/json\r\n"
TARGET = "/v1/drops/trial/claims"


def claim_head(ticket: str, lines: str, first: str = f"POST {TARGET} HTTP/1.1") -> bytes:
    head = f"{first}\r\nHost: flashclaim.test\r\nAuthorization: Ticket {ticket}\r\n{lines}\r\n"
    return head.encode("latin-1")


async def refused(front: Front, data: bytes, smuggled: bytes = b"") -> None:
    """One answer, 400, and the end; nothing of it was a claim."""
    statuses = await answers_to(front, data + smuggled)
    assert statuses == [400], (data, statuses)
    assert await front.taken() == 0, data


TWO_LENGTHS = [
    "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\tchunked\r\nContent-Length: 4\r\n",
    "transfer-ENCODING: CHUNKED\r\nContent-Length: 4\r\n",
    "Transfer-Encoding: \x0bchunked\r\nContent-Length: 4\r\n",
    "Transfer-Encoding: chunked\x0b\r\nContent-Length: 4\r\n",
    "Transfer-Encoding : chunked\r\nContent-Length: 4\r\n",
    " Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "Transfer-Encoding:\r\n chunked\r\nContent-Length: 4\r\n",
    "X: y\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "Transfer-Encoding: chunked\nContent-Length: 4\r\n",
    "Transfer-Encoding: 'chunked'\r\nContent-Length: 4\r\n",
    "Transfer-Encoding: identity\r\nContent-Length: 4\r\n",
    "Transfer-Encoding: chunked, chunked\r\nContent-Length: 4\r\n",
    "Transfer-Encoding: identity, chunked\r\nContent-Length: 4\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Content-Length: 0\r\nContent-Length: 4\r\n",
    "Content-Length: 4\r\nContent-Length: 0\r\n",
    "Content-Length: 4, 0\r\n",
    "Content-Length: 4\nContent-Length: 0\r\n",
    "Content-Length: \r\n 4\r\n",
    "Content-Length : 4\r\n",
    "Content-Length\t: 4\r\n",
    "Content-Length: 4\x00\r\n",
    "Content-Length: 0x4\r\n",
    "Content-Length: +4\r\n",
    "Content-Length: 4e0\r\n",
]


class TestTwoReadings:
    """Each is a claim that carries another request, for those who believe the other of two headers."""

    async def test_a_claim_with_two_lengths_is_no_claim(self, front: Front) -> None:
        await front.launched()
        inner, ticket = claim_request(await front.ticket("m-2")), await front.ticket()
        for lines in TWO_LENGTHS:
            await refused(front, claim_head(ticket, lines), b"0\r\n\r\n" + inner)

    async def test_lines_end_as_they_must(self, front: Front) -> None:
        """A bare LF or CR is no end of a line: nothing behind it is a header, or a request."""
        await front.launched()
        for end in (b"\n\n", b"\n\r\n", b"\r\n\n", b"\r\r", b"\r\n\r"):
            data = claim_head(await front.ticket(), "X: y\r\n").removesuffix(b"\r\n\r\n") + end
            await refused(front, data, claim_request(await front.ticket("m-2")))

    async def test_a_version_that_is_not_ours_is_one_request_and_the_end_of_the_line(self, front: Front) -> None:
        await front.launched()
        for number, version in enumerate(("", " HTTP/0.9", " HTTP/1.0", " HTTP/2.0"), start=1):
            head = claim_head(await front.ticket(f"m-{number}"), "", f"POST {TARGET}{version}")
            assert await answers_to(front, head + claim_request(await front.ticket("m-x"))) == [201]
            assert await front.taken() == number
        for version in (" ", " HTTP/1.2", " HTTP/3.0", " HTTP/1.1x", " HTTP/11", " HTTP/1", " http/1.1"):
            assert await answers_to(front, claim_head(await front.ticket("m-x"), "", f"POST {TARGET}{version}")) == [
                400
            ]
        assert await answers_to(front, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == [400]

    async def test_an_upgrade_is_not_taken(self, front: Front) -> None:
        """A proxy that tunnels after `h2c` would let everything through; the claim is a claim, and no 101 comes."""
        await front.launched()
        lines = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        assert await answers_to(front, claim_head(await front.ticket(), lines)) == [201]


ODD_CHUNKS = [
    b'f;a\nX\r\n{"quantity": 1}\r\n0\r\n\r\n',  # a proxy that ends the size at LF sees other chunks
    b'f\n{"quantity": 1}\r\n0\r\n\r\n',
    b'f\r\n{"quantity": 1}\n0\r\n\r\n',
    b'f\r\n{"quantity": 1}0\r\n\r\n',
    b'f \r\n{"quantity": 1}\r\n0\r\n\r\n',
    b'0xf\r\n{"quantity": 1}\r\n0\r\n\r\n',
    b'+f\r\n{"quantity": 1}\r\n0\r\n\r\n',
    b'\r\nf\r\n{"quantity": 1}\r\n0\r\n\r\n',
    b'1000000000000000f\r\n{"quantity": 1}\r\n0\r\n\r\n',
    b'1000000000000000000000f\r\n{"quantity": 1}\r\n0\r\n\r\n',
]


class TestChunks:
    async def test_an_extension_of_a_chunk_is_read_over(self, front: Front) -> None:
        await front.launched(limit=9)
        for number, extension in enumerate((b";a", b";a=b", b';a="x;y"', b";" + b"a" * 5_000)):
            body = b"f" + extension + b'\r\n{"quantity": 1}\r\n0\r\n\r\n'
            data = claim_head(await front.ticket(), JSON + "Transfer-Encoding: chunked\r\n") + body
            assert await answers_to(front, data) == [201]
            assert await front.taken() == number + 1

    async def test_chunks_that_two_may_cut_differently_are_refused(self, front: Front) -> None:
        await front.launched()
        inner, ticket = claim_request(await front.ticket("m-2")), await front.ticket()
        for body in ODD_CHUNKS:
            await refused(front, claim_head(ticket, JSON + "Transfer-Encoding: chunked\r\n") + body, inner)


async def test_what_a_body_holds_is_no_request(front: Front) -> None:
    """CL.0: a route that does not want a body must still read it to its end."""
    await front.launched()
    inner = claim_request(await front.ticket("m-2"))
    for target in ("/v1/drops/trial", "/nothing", "/docs/static/favicon.png"):
        for method in ("GET", "POST", "OPTIONS"):
            statuses = await answers_to(front, request(method, target, [], inner), method)
            assert len(statuses) == 1, (method, target, statuses)
    assert await front.taken() == 0


async def test_an_old_client_with_chunks_is_read_once(front: Front) -> None:
    """HTTP/1.0 knows no chunks: whatever it is taken for, what follows is not a second claim."""
    await front.launched()
    head = claim_head(await front.ticket(), "Transfer-Encoding: chunked\r\n", f"POST {TARGET} HTTP/1.0")
    statuses = await answers_to(front, head + b"0\r\n\r\n" + claim_request(await front.ticket("m-2")))
    assert len(statuses) == 1
    assert await front.taken() <= 1


@pytest.mark.parametrize("start", ["gate"], indirect=True)
async def test_the_gates_own_answers_end_their_line(start: Start) -> None:
    """After a 400 nothing on the line is read any more, however it is cut into segments."""
    front = await start()
    await front.launched()
    line = await front.line()
    await line.send(
        claim_head(await front.ticket(), "X : y\r\n"), claim_request(await front.ticket("m-2")), pause_s=0.01
    )
    assert (await line.read()).status == 400
    assert await line.is_closed()
    assert await front.taken() == 0


@pytest.mark.parametrize("start", ["gate"], indirect=True)
async def test_a_trailer_is_no_header(start: Start) -> None:
    """No authorization comes behind the body, though uvicorn by itself would take it; a length there is refused."""
    front = await start()
    await front.launched()
    ticket = await front.ticket()
    data = request("POST", TARGET, [("Transfer-Encoding", "chunked")]) + b"0\r\n"
    trailer = f"Authorization: Ticket {ticket}\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n".encode()
    assert await answers_to(front, data + trailer + claim_request(ticket), at_least=2) == [401, 201]
    inner = claim_request(await front.ticket("m-2"))
    statuses = await answers_to(front, data + b"Content-Length: 50\r\n\r\n" + inner)
    assert statuses == [400]
    assert await front.taken() == 1
