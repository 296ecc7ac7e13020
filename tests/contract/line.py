"""A connection as bytes: HTTP clients hide what these tests are about (order, segments, closing, odd heads)."""

import asyncio
import json
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

WAIT_S = 5.0  # for an answer; none takes so long unless it never comes

Headers = Iterable[tuple[str, str]]


def request(method: str, target: str, headers: Headers = (), body: bytes = b"", version: str = "1.1") -> bytes:
    """The bytes of a request; `Content-Length` is added for a body."""
    lines = [f"{method} {target} HTTP/{version}", "Host: flashclaim.test"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `headers` has a name for each line, so a line that came twice fails where it is read."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def code(self) -> str:
        """The code of a problem; for any other answer its status."""
        return str(self.json()["code"]) if "problem" in self.headers.get("content-type", "") else str(self.status)


class Line:
    """One connection to a front."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
        self._reader = reader
        if writer is not None:  # else only what came is read
            self._writer = writer

    @property
    def port(self) -> int:
        """The client's own port: by it the server's side of the connection is found."""
        return int(self._writer.get_extra_info("sockname")[1])

    async def send(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        """Send pieces, each in a segment of its own."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(pause_s)

    def send_unread(self, data: bytes) -> None:
        """Send as much as the other side takes, now or later, without waiting for it."""
        self._writer.write(data)

    async def read(self, method: str = "POST", within_s: float = WAIT_S) -> Answer:
        """The next answer; `method` is that of its request, for an answer to HEAD has no body."""
        async with asyncio.timeout(within_s):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.rstrip("\r\n").split("\r\n")
            version, status = first.split(" ")[:2]
            assert version == "HTTP/1.1"
            pairs = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
            headers = dict(pairs)
            assert len(headers) == len(pairs), f"a header came twice: {pairs}"
            assert all(name == name.lower() for name in headers)
            return Answer(int(status), headers, await self._body(int(status), headers, method))

    async def ask(self, data: bytes, method: str = "POST") -> Answer:
        await self.send(data)
        return await self.read(method)

    async def is_closed(self, within_s: float = WAIT_S) -> bool:
        """Whether the server closes within the time, having sent nothing more."""
        try:
            async with asyncio.timeout(within_s):
                rest = await self._reader.read()
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True
        assert rest == b"", rest[:500]
        return True

    @property
    def unsent_bytes(self) -> int:
        """What the other side has not taken: not even its kernel."""
        return int(self._writer.transport.get_write_buffer_size())

    def end_writing(self) -> None:
        self._writer.write_eof()

    def vanish(self) -> None:
        """Break the connection off at once, as a phone in a tunnel's end does: the server gets a reset."""
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.transport.abort()
        with suppress(ConnectionError):  # the server may have closed before
            await self._writer.wait_closed()

    async def _body(self, status: int, headers: dict[str, str], method: str) -> bytes:
        if method == "HEAD" or status < 200 or status in (204, 304):
            return b""
        if "content-length" in headers:
            return await self._reader.readexactly(int(headers["content-length"]))
        assert headers.get("transfer-encoding") == "chunked", headers
        body = b""
        while size := int(await self._reader.readline(), 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readline()
        return body
