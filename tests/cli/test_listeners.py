"""The promise: `serve` listens on every address of its host's name, leaves out what the machine lacks, and says so."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from structlog.testing import capture_logs

from cli import listeners
from engine.errors import Misconfigured
from engine.runtime.servers import free_port

NOT_OURS = "192.0.2.1"  # TEST-NET-1, RFC 5737: no machine has it
Names = Callable[..., None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Gives the name `here` addresses, as a hosts file does."""
    ask = socket.getaddrinfo

    def name(*addresses: str) -> None:
        def asked(_: str, *more: Any, **how: Any) -> list[Any]:
            return [row for address in addresses for row in ask(address, *more, **how)]

        monkeypatch.setattr(socket, "getaddrinfo", asked)

    return name


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def bind(port: int) -> Iterator[Callable[..., list[socket.socket]]]:
    opened: list[socket.socket] = []

    def bind(host: str = "here") -> list[socket.socket]:
        opened.extend(found := listeners.bind(host, port))
        return found

    yield bind
    for listener in opened:
        listener.close()


async def is_answered(listening: list[socket.socket], address: str, port: int) -> bool:
    """Whether a client that comes to an address is served by what was bound."""

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here")
        writer.close()

    servers = [await asyncio.start_server(answer, sock=each.dup()) for each in listening]
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(address, port)
            found = await reader.read()
            writer.close()
            return found == b"here"
    except ConnectionRefusedError:
        return False
    finally:
        for server in servers:
            server.close()


Bind = Callable[..., list[socket.socket]]


async def test_a_name_with_two_addresses_is_served_on_both(names: Names, bind: Bind, port: int) -> None:
    names("::1", "127.0.0.1", "127.0.0.1")
    with capture_logs() as logs:
        listening = bind()
    assert len(listening) == 2 * listeners.LISTENERS
    assert await is_answered(listening, "127.0.0.1", port)
    assert await is_answered(listening, "::1", port)
    assert logs == [{"event": "listening", "addresses": ["::1", "127.0.0.1"], "port": port, "log_level": "info"}]


async def test_an_address_is_served_alone(bind: Bind, port: int) -> None:
    listening = bind("127.0.0.1")
    assert len(listening) == listeners.LISTENERS
    assert await is_answered(listening, "127.0.0.1", port)
    assert not await is_answered(listening, "::1", port)


async def test_all_addresses_of_both_kinds_do_not_stand_in_each_others_way(names: Names, bind: Bind, port: int) -> None:
    names("::", "0.0.0.0")  # noqa: S104 (that is what is tried)
    listening = bind()
    assert await is_answered(listening, "127.0.0.1", port)
    assert await is_answered(listening, "::1", port)


async def test_the_ipv6_wildcard_alone_takes_ipv4_too(bind: Bind, port: int) -> None:
    listening = bind("::")
    assert await is_answered(listening, "127.0.0.1", port)


async def test_an_address_that_the_machine_lacks_is_left_out_with_a_warning(
    names: Names, bind: Bind, port: int
) -> None:
    names(NOT_OURS, "127.0.0.1")
    with capture_logs() as logs:
        listening = bind()
    assert await is_answered(listening, "127.0.0.1", port)
    assert [(line["log_level"], line.get("addresses")) for line in logs] == [
        ("warning", [NOT_OURS]),
        ("info", ["127.0.0.1"]),
    ]


def test_without_any_address_of_the_machine_it_does_not_start(bind: Bind) -> None:
    with pytest.raises(Misconfigured, match=NOT_OURS):
        bind(NOT_OURS)


@pytest.mark.parametrize("host", ["nothing.invalid", "", "a" * 70, "..", "127.0.0.1:80"])
def test_a_name_without_an_address_is_named(bind: Bind, host: str) -> None:
    with pytest.raises(Misconfigured, match=f"host '{host}'"):
        bind(host)


def test_a_port_that_is_taken_on_one_of_them_is_said_and_nothing_stays_bound(
    names: Names, bind: Bind, port: int
) -> None:
    names("::1", "127.0.0.1")
    with closing(socket.create_server(("127.0.0.1", port))):
        with pytest.raises(Misconfigured, match=rf"127\.0\.0\.1, port {port}: Address already in use"):
            bind()
        socket.create_server(("::1", port), family=socket.AF_INET6).close()


def test_of_two_that_start_together_one_is_told(bind: Bind, port: int) -> None:
    """Both may bind while neither listens."""
    bind("127.0.0.1")
    with pytest.raises(Misconfigured, match=rf"127\.0\.0\.1, port {port}: Address already in use"):
        bind("127.0.0.1")


def test_who_is_overtaken_between_its_two_steps_is_told_too(
    bind: Bind, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))

        class Overtaken(socket.socket):
            def bind(self, address: Any) -> None:
                super().bind(address)
                other.listen()

        with monkeypatch.context() as patched:
            patched.setattr(socket, "socket", Overtaken)
            with pytest.raises(Misconfigured, match="Address already in use"):
                bind("127.0.0.1")


def test_all_listeners_of_an_address_take_from_one_queue(bind: Bind, port: int) -> None:
    """And it is there before anything serves: who comes at `listening` waits, and is not refused."""
    listening = bind("127.0.0.1")
    with ExitStack() as opened:
        for _ in listening:
            opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        for listener in listening:
            listener.settimeout(5)
            opened.enter_context(listener.accept()[0])
