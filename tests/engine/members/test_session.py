"""The promise: only tokens of our identity open a session; forged, late and foreign ones are refused."""

import asyncio
import json
import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey

from engine.members.model import Session
from engine.members.session import IdentityUnavailable, SessionInvalid, SessionTokens
from engine.runtime.settings import Settings


async def test_a_token_comes_back_as_its_session(settings: Settings) -> None:
    tokens = SessionTokens(settings)
    session = Session("m-1", "person-1", "member", {"town": "大朗"})
    assert await tokens.verify(tokens.issue(session, 60)) == session


async def test_the_dev_identity_gives_a_town(settings: Settings) -> None:
    tokens = SessionTokens(settings)
    towns = {
        (await tokens.verify(tokens.issue(Session(f"m-{n}", f"m-{n}"), 60))).attributes["town"] for n in range(500)
    }
    assert towns == {town.zh for town in settings.towns}


@pytest.mark.parametrize(
    "payload",
    [
        {"sub": 5},
        {"sub": ""},
        {"sub": "has blanks"},
        {"sub": "x" * 65},
        {"sub": "m-1", "exp": 1},
        {"sub": "m-1", "exp": "never"},
        {"sub": "m-1", "role": "king"},
        {"sub": "m-1", "attributes": []},
        {"sub": "m-1", "attributes": {"town": 5}},
        {"sub": "m-1", "subject": "\n"},
        {},
    ],
)
async def test_a_payload_that_makes_no_session_is_refused(settings: Settings, payload: dict[str, Any]) -> None:
    assert settings.session_secret is not None
    key = OctKey.import_key(settings.session_secret.get_secret_value())
    token = jwt.encode({"alg": "HS256"}, {"exp": int(time.time()) + 60, **payload}, key)
    with pytest.raises(SessionInvalid):
        await SessionTokens(settings).verify(token)


async def test_other_keys_and_algorithms_are_refused(settings: Settings) -> None:
    payload = {"sub": "m-1", "exp": int(time.time()) + 60}
    other = jwt.encode({"alg": "HS256"}, payload, OctKey.import_key("another secret, also long enough for this"))
    unsigned = "eyJhbGciOiJub25lIn0." + other.split(".")[1] + "."
    for token in (other, unsigned, "", "a.b.c", "ä", "x" * 10_000):
        with pytest.raises(SessionInvalid):
            await SessionTokens(settings).verify(token)


async def test_production_tokens_are_checked_by_the_providers_keys_and_follow_their_rotation(
    settings: Settings,
) -> None:
    old, new = (ECKey.generate_key("P-256", {"kid": name}) for name in ("old", "new"))
    served = [old]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps(KeySet([*served]).as_dict(private=False)).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    public = settings.model_copy(update={"session_secret": None, "session_jwks_url": url, "session_issuer": "union"})
    tokens = SessionTokens(public)

    def token(key: ECKey, **more: Any) -> str:
        payload = {"sub": "m-1", "exp": int(time.time()) + 60, "iss": "union", **more}
        return jwt.encode({"alg": "ES256", "kid": key.kid}, payload, key)

    assert (await tokens.verify(token(old))).member_id == "m-1"
    with pytest.raises(SessionInvalid):
        await tokens.verify(token(old, iss="another"))
    served[:] = [new]
    with pytest.raises(SessionInvalid):
        await tokens.verify(token(new))  # the provider was asked a moment ago: not again within ten seconds
    tokens._fetched_s -= 11
    assert (await tokens.verify(token(new))).member_id == "m-1"
    server.close()
    with pytest.raises(IdentityUnavailable):
        await SessionTokens(public).verify(token(new))
