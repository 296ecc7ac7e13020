"""The promise: bytes that are no request are refused and the line is closed; they are never a claim, nor smuggle one.

What a proxy before us may read otherwise than we do (two lengths, a length beside chunks) is refused whole.
"""

from tests.contract.conftest import Store
from tests.contract.front import Front, claim_request, told
from tests.contract.line import request

WISH = b'{"quantity": 1}'
LENGTH = ("Content-Length", "15")


NO_LENGTHS = ["-1", "+15", "1_5", "0x0f", "15, 15", "1 5", "", "15a", "99999999999999999999", "１５"]


TWO_LENGTHS = [(15, 15), (15, 0), (0, 15)]


ORDERS = [True, False]


NO_ENCODINGS = ["xchunked", "chunked, identity", "gzip", "chunked\r\nTransfer-Encoding: x"]


NO_CHUNKS = [b"z\r\n", b"-1\r\n", b"5\r\n123456\r\n", b"fffffffffffffffff\r\n"]


NO_HEADERS = [
    "X-A: a\x00b\r\n",
    "X\x00: a\r\n",
    "X-A: a\nX-B: b\r\n",
    "X-A: a\rX-B: b\r\n",
    "X-A : a\r\n",
    " X-A: a\r\n",
    ": a\r\n",
    "X-A\r\n",
    "X-\xe9: a\r\n",
]


NO_FIRST_LINES = [
    b"POST /v1/drops/trial/claims HTTP/3.7",
    b"POST  /v1/drops/trial/claims HTTP/1.1 x",
    b"post /v1/drops/trial/claims HTTP/1.1",
    b"CLAIM /v1/drops/trial/claims HTTP/1.1",
    b"POST v1/drops/trial/claims HTTP/1.1",
    b"POST /v1/drops/trial\x00/claims HTTP/1.1",
    b"POST /v1/drops/tri\xc3\xa9l/claims HTTP/1.1",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


def head(ticket: str, *lines: str) -> bytes:
    """A claim's head with more lines just as they are."""
    return claim_request(ticket)[:-2] + "".join(lines).encode("latin-1") + b"\r\n"


async def refused_whole(front: Front, data: bytes) -> None:
    line = await front.line()
    await line.send(data)
    answer = await line.read()
    assert answer.status == 400, (data, answer)
    assert answer.headers["connection"] == "close"
    assert await line.is_closed()
    assert await front.taken() == 0, data


class TestLengths:
    async def test_a_length_that_is_no_number_is_refused(self, front: Front) -> None:
        await front.launched()
        for length in NO_LENGTHS:
            text = length.encode().decode("latin-1")
            await refused_whole(front, head(await front.ticket(), f"Content-Length: {text}\r\n") + WISH)

    async def test_a_huge_length_is_413_before_any_of_it_comes(self, front: Front) -> None:
        await front.launched()
        data = head(await front.ticket(), "Content-Length: 9999999999999999999\r\n")
        line = await front.line()
        told(await line.ask(data), 413, "too-large", ["connection"])
        assert await line.is_closed()
        assert await front.taken() == 0

    async def test_two_lengths_are_refused(self, front: Front) -> None:
        await front.launched()
        for first, second in TWO_LENGTHS:
            lines = [f"Content-Length: {first}\r\n", f"content-length: {second}\r\n"]
            await refused_whole(front, head(await front.ticket(), *lines) + WISH)

    async def test_a_length_beside_chunks_is_refused(self, front: Front) -> None:
        await front.launched()
        for is_length_first in ORDERS:
            lines = ["Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n"]
            data = head(await front.ticket(), *(lines[::-1] if is_length_first else lines)) + b"0\r\n\r\n"
            await refused_whole(front, data + request("GET", "/v1/drops/trial"))

    async def test_an_encoding_that_is_not_chunked_is_refused(self, front: Front) -> None:
        await front.launched()
        for encoding in NO_ENCODINGS:
            data = head(await front.ticket(), f"Transfer-Encoding: {encoding}\r\n") + b"0\r\n\r\n"
            await refused_whole(front, data)

    async def test_chunks_that_are_none_are_refused(self, front: Front) -> None:
        await front.launched()
        for body in NO_CHUNKS:
            await refused_whole(front, head(await front.ticket(), "Transfer-Encoding: chunked\r\n") + body)


class TestHeads:
    async def test_a_line_that_is_no_header_is_refused(self, front: Front) -> None:
        await front.launched()
        for lines in NO_HEADERS:
            await refused_whole(front, head(await front.ticket(), lines))

    async def test_a_first_line_that_is_none_is_refused(self, front: Front) -> None:
        await front.launched()
        for first in NO_FIRST_LINES:
            data = first + claim_request(await front.ticket()).removeprefix(b"POST /v1/drops/trial/claims HTTP/1.1")
            await refused_whole(front, data)


async def test_nonsense_behind_a_claim_ends_the_line_but_not_the_claim(front: Front, store: Store) -> None:
    """The claim is under way: it is decided, and its ticket tells so."""
    await front.launched()
    ticket = await front.ticket()
    line = await front.line()
    store.hold()
    await line.send(claim_request(ticket) + b"\x00\x01\x02 nonsense\r\n\r\n")
    await store.until_asked()
    assert (await line.read()).status == 400
    assert await line.is_closed()
    store.release()
    told(await front.ask(claim_request(ticket)), 200)


async def test_empty_lines_before_a_request_do_not_matter(front: Front) -> None:
    await front.launched()
    ticket = await front.ticket()
    line = await front.line()
    await line.send(b"\r\n\r\n" + claim_request(ticket))
    told(await line.read(), 201)
    await line.send(b"\r\n", claim_request(ticket))
    told(await line.read(), 200)
