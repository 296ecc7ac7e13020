"""A member's phone, as little of HTTP as it needs: httpx would take more of the two cores than all servers together."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """An answer's status and its decoded body."""

    status: int
    said: dict[str, Any]

    @property
    def code(self) -> str:
        """What a refusal is called; empty for anything else."""
        return str(self.said["code"]) if self.status >= 400 else ""


class Client:
    """Sends requests to a port of this machine, on connections that it keeps."""

    def __init__(self, port: int, timeout_s: float) -> None:
        self._port = port
        self._timeout_s = timeout_s
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, path: str, headers: Mapping[str, str], body: Any = None) -> Answer:
        """Send once; raises `OSError` when the connection ends, or nothing comes in time."""
        sent = b"" if body is None else json.dumps(body).encode()
        more = {"Host": "flashclaim", "Content-Length": str(len(sent)), **headers}
        if sent:
            more["Content-Type"] = "application/json"
        lines = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        async with asyncio.timeout(self._timeout_s):  # a TimeoutError is an OSError
            reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
            try:
                writer.write(f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + sent)
                answer, is_kept = await _read(reader)
            except BaseException:
                writer.transport.abort()
                raise
        if is_kept:
            self._idle.append((reader, writer))
        else:
            writer.transport.abort()
        return answer

    def close(self) -> None:
        for _, writer in self._idle:
            writer.transport.abort()
        self._idle.clear()


async def _read(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """The answer, and whether the connection stays."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("\r\ncontent-length: ")[2].partition("\r\n")[0])
        body = await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the connection ended before the answer") from error
    return Answer(int(head.split(" ", 2)[1]), json.loads(body)), "\r\nconnection: close\r\n" not in head
