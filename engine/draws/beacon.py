"""Read a beacon's value where it is published: one request to a public address, bounded in time and size, no redirect.

The address is an operator's, in the draw's definition; it must not lead into the networks behind us. So what the name
stands for is looked at, and the address that was looked at is the one that is connected to.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from datetime import datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx

from engine.bounds import BEACON_BYTES_MAX, BEACON_TIMEOUT_S
from engine.draws.model import BeaconUnavailable
from engine.draws.publication import BeaconValue, DrawInvalid
from engine.drops.draw_rules import ROUND_PLACE

_PORTS = {"http": 80, "https": 443}


def is_public(address: str) -> bool:
    """Whether an address is on the internet: not private, local, or for special use."""
    found = ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_global and not found.is_multicast


async def read(
    url: str, number: int, now: Callable[[], datetime], may_ask: Callable[[str], bool] = is_public
) -> BeaconValue:
    """The value of a round, seen now. `url` holds `{round}`; the answer is hex, or JSON as drand's with `randomness`.

    Raises `BeaconUnavailable` where there is no answer, `DrawInvalid` for an address that must not be asked and for an
    answer that holds no value; whether the value counts is for the draw's rule to say.
    """
    whole = url.replace(ROUND_PLACE, str(number))
    parts = urlsplit(whole)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise DrawInvalid("beacon.url: only http and https addresses are read", field="beacon.url")
    try:
        async with asyncio.timeout(BEACON_TIMEOUT_S):
            address = await _looked_up(parts.hostname, parts.port or _PORTS[parts.scheme], may_ask)
            text = await _asked(httpx.URL(whole), address)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise BeaconUnavailable(
            f"the beacon does not answer at {parts.hostname} ({type(error).__name__}): try again, or give its value",
            retry_after_s=30,
        ) from error
    return BeaconValue(number, _value(text, number), now())


async def _looked_up(host: str, port: int, may_ask: Callable[[str], bool]) -> str:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(place[4][0]) for place in found]
    if not addresses or not all(map(may_ask, addresses)):
        raise DrawInvalid(f"beacon.url: {host[:80]!r} is not a public address", field="beacon.url")
    return addresses[0]


async def _asked(url: httpx.URL, address: str) -> bytes:
    """The body of the answer, from this very address: asking the name again might lead elsewhere."""
    headers = {"Host": url.netloc.decode("ascii"), "Accept": "application/json, text/plain"}
    async with httpx.AsyncClient(timeout=BEACON_TIMEOUT_S, follow_redirects=False, trust_env=False) as client:
        request = client.build_request("GET", url.copy_with(host=address), headers=headers)
        request.extensions["sni_hostname"] = url.host
        answer = await client.send(request, stream=True)
        try:
            if answer.status_code != httpx.codes.OK:
                raise httpx.HTTPStatusError(f"status {answer.status_code}", request=request, response=answer)
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > BEACON_BYTES_MAX:
                    raise _no_value(f"has more than {BEACON_BYTES_MAX} bytes")
            return body
        finally:
            await answer.aclose()


def _value(body: bytes, number: int) -> str:
    """The value as hex; whoever made it sees to its spelling."""
    try:
        text = body.decode("ascii").strip()
        if not text.startswith("{"):
            return text.lower()
        told = json.loads(text)
        if told.get("round", number) != number:
            raise _no_value(f"is for another round than {number}")
        return str(told["randomness"]).lower()
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _no_value(f"holds no value ({type(error).__name__})") from None


def _no_value(why: str) -> DrawInvalid:
    return DrawInvalid(f"beacon.url: the answer {why}", field="beacon.url")
