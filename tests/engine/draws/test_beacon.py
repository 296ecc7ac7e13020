"""The promise: a beacon's value is read from the public address that was named, and from nowhere else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from engine.bounds import BEACON_BYTES_MAX
from engine.draws import beacon
from engine.draws.model import BeaconUnavailable
from engine.draws.publication import BeaconValue, DrawInvalid
from tests.factories.servers import listening

NOW = datetime(2025, 9, 20, 13, tzinfo=UTC)
Serve = Callable[[bytes], Awaitable[str]]


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def serving(told: bytes, heard: list[bytes]) -> AsyncIterator[str]:
    """A server on this machine that says this to everybody."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(told)
        await writer.drain()

    async with listening(serve) as port:
        yield f"http://localhost:{port}/public/{{round}}"


async def read(told: bytes, heard: list[bytes] | None = None) -> BeaconValue:
    async with serving(told, [] if heard is None else heard) as url:
        return await beacon.read(url, 7, lambda: NOW, lambda address: address in ("127.0.0.1", "::1"))


async def test_hex_and_drands_json_are_values() -> None:
    heard: list[bytes] = []
    assert await read(answer(b"5A5A\n"), heard) == BeaconValue(7, "5a5a", NOW)
    assert await read(answer(b'{"round":7,"randomness":"5a5a","signature":"00"}')) == BeaconValue(7, "5a5a", NOW)
    assert heard[0].startswith(b"GET /public/7 HTTP/1.1\r\nHost: localhost:")


@pytest.mark.parametrize(
    "body",
    [b'{"round":8,"randomness":"5a"}', b"{}", b'{"randomness"', b"\xff", b"{" * 9000, b"x" * (BEACON_BYTES_MAX + 1)],
)
async def test_anything_else_is_none(body: bytes) -> None:
    with pytest.raises(DrawInvalid, match=r"beacon\.url: the answer"):
        await read(answer(body))


@pytest.mark.parametrize(
    "told",
    [
        answer(b"", "302 Found", "Location: http://127.0.0.1/secret"),
        answer(b"5a", "404 Not Found"),
        answer(b"5a", "500 Internal Server Error"),
        b"no http",
        b"",
    ],
)
async def test_a_redirect_or_an_error_is_no_answer(told: bytes) -> None:
    heard: list[bytes] = []
    with pytest.raises(BeaconUnavailable):
        await read(told, heard)
    assert len(heard) == 1


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "[::1]", "10.0.0.1", "192.168.1.1", "169.254.169.254", "[::ffff:127.0.0.1]", "0.0.0.0",  # noqa: S104
     "[fe80::1]", "100.64.0.1", "224.0.0.1", "2130706433"],
)  # fmt: skip
async def test_an_address_behind_us_is_not_asked(host: str) -> None:
    heard: list[bytes] = []
    async with serving(answer(b"5a"), heard) as url:
        with pytest.raises(DrawInvalid, match="not a public address"):
            await beacon.read(url.replace("localhost", host), 7, lambda: NOW)
    assert heard == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/{round}", "gopher://x", "//x", "http://"])
async def test_only_the_web_is_read(url: str) -> None:
    with pytest.raises(DrawInvalid, match="only http and https"):
        await beacon.read(url, 7, lambda: NOW)


async def test_one_that_says_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacon, "BEACON_TIMEOUT_S", 0.2)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)

    async with listening(silent) as port:
        with pytest.raises(BeaconUnavailable):
            await beacon.read(f"http://127.0.0.1:{port}/{{round}}", 7, lambda: NOW, lambda _: True)
