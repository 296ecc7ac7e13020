"""Session tokens: JSON Web Tokens, checked here, issued by an identity provider, or by the dev identity on one machine.

Source: RFC 7519 (JWT), RFC 7517 (JWK sets); the work is done by joserfc.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, ClassVar, cast
from zlib import crc32

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey

from engine import ids
from engine.errors import Invalid, Unavailable
from engine.members.attributes import of_token
from engine.members.model import Role, Session
from engine.runtime.settings import Settings

JWKS_KEPT_S = 300.0
JWKS_ASKED_AGAIN_S = 10.0  # an unknown key id asks the provider again, but not more often than this
JWKS_TIMEOUT_S = 5.0
TOKEN_CHARS_MAX = 8_192
_LOCAL, _PUBLIC = ["HS256"], ["RS256", "ES256", "EdDSA"]


class SessionInvalid(Invalid):
    """The session token is missing, forged, expired, or not for this service."""

    code: ClassVar[str] = "session-invalid"


class IdentityUnavailable(Unavailable):
    code: ClassVar[str] = "identity-unavailable"


class SessionTokens:
    """Issues (dev identity only) and verifies session tokens under one process's settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        secret = settings.session_secret
        self._secret = OctKey.import_key(secret.get_secret_value()) if secret else None
        self._public: KeySet | None = None
        self._fetched_s = float("-inf")
        self._fetching: asyncio.Task[KeySet] | None = None
        claims: dict[str, Any] = {"sub": {"essential": True}, "exp": {"essential": True}}
        if settings.session_issuer:
            claims["iss"] = {"essential": True, "value": settings.session_issuer}
        if settings.session_audience:
            claims["aud"] = {"essential": True, "value": settings.session_audience}
        self._registry = jwt.JWTClaimsRegistry(leeway=5, **claims)

    def issue(self, session: Session, ttl_s: int) -> str:
        """A token of the dev identity. A member without a town is given one by their id, so that examples work."""
        if self._secret is None:
            raise SessionInvalid("tokens are issued by your identity provider: there is no session_secret here")
        attributes = dict(session.attributes)
        if session.role == "member":
            towns = self._settings.towns
            attributes.setdefault("town", towns[crc32(session.member_id.encode()) % len(towns)].zh)
        now = int(time.time())
        payload: dict[str, Any] = {
            "sub": session.member_id,
            "iat": now,
            "exp": now + ttl_s,
            "role": session.role,
            "attributes": attributes,
        }
        if session.subject != session.member_id:
            payload["subject"] = session.subject
        if session.organisation is not None:
            payload["organisation"] = session.organisation
        if self._settings.session_issuer:
            payload["iss"] = self._settings.session_issuer
        if self._settings.session_audience:
            payload["aud"] = self._settings.session_audience
        return jwt.encode({"alg": "HS256"}, payload, self._secret)

    def verify_now(self, token: str) -> Session | None:
        """Who a token stands for, without waiting; None when the provider's keys may have to be fetched for it.

        Raises `SessionInvalid`.
        """
        if self._secret is not None:
            return self._checked(token, self._secret, _LOCAL)
        if self._public is None or time.monotonic() - self._fetched_s > JWKS_KEPT_S:
            return None
        try:
            return self._checked(token, self._public, _PUBLIC)
        except SessionInvalid:
            return None  # the provider may have rotated its keys since they were fetched

    async def verify(self, token: str) -> Session:
        """Who a token stands for; raises `SessionInvalid`, or `IdentityUnavailable` when keys cannot be fetched."""
        found = self.verify_now(token)
        if found is not None:
            return found
        keys = await self._keys(JWKS_KEPT_S)
        try:
            return self._checked(token, keys, _PUBLIC)
        except SessionInvalid:
            return self._checked(token, await self._keys(JWKS_ASKED_AGAIN_S), _PUBLIC)

    def _checked(self, token: str, keys: OctKey | KeySet, algorithms: list[str]) -> Session:
        if len(token) > TOKEN_CHARS_MAX:
            raise SessionInvalid("this session token is too long")
        try:
            payload = jwt.decode(token, keys, algorithms=algorithms).claims
            self._registry.validate(payload)
            return _session(payload)
        except (JoseError, ids.IdInvalid, ValueError, TypeError, KeyError, RecursionError) as error:
            raise SessionInvalid(f"this session token is not valid ({type(error).__name__}): sign in again") from None

    async def _keys(self, age_s_max: float) -> KeySet:
        if self._public is not None and time.monotonic() - self._fetched_s < age_s_max:
            return self._public
        # One question for all who wait: or a thousand forged tokens would ask the provider a thousand times.
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        return await asyncio.shield(self._fetching)

    async def _fetch(self) -> KeySet:
        try:
            async with httpx.AsyncClient(timeout=JWKS_TIMEOUT_S) as client:
                answer = await client.get(str(self._settings.session_jwks_url))
                answer.raise_for_status()
                self._public = KeySet.import_key_set(answer.json())
        except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if self._public is None:
                raise IdentityUnavailable("the identity provider's keys cannot be fetched: try again") from error
        self._fetched_s = time.monotonic()
        return self._public

    def _fetched(self, fetching: asyncio.Task[KeySet]) -> None:
        self._fetching = None
        if not fetching.cancelled():
            fetching.exception()  # whoever waited has it


def _session(payload: Mapping[str, Any]) -> Session:
    member_id = ids.member_id(_text(payload["sub"]))
    subject = ids.member_id(_text(payload.get("subject", member_id)))
    role = payload.get("role", "member")
    if role not in ("member", "operator"):
        raise ValueError("unknown role")
    # One that is there and says nothing must not stand for the whole city.
    organisation = ids.name(_text(payload["organisation"]), "organisation") if "organisation" in payload else None
    return Session(member_id, subject, cast(Role, role), of_token(payload.get("attributes", {})), organisation)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value
