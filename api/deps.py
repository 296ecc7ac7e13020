"""What routes ask for, as Annotated aliases."""

import asyncio
import json
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.claim import BodyInvalid, MediaType
from engine.bounds import PAGE_ROWS_MAX
from engine.campaigns.service import Campaigns
from engine.claims.service import Claims
from engine.draws.service import Draws
from engine.drops.model import Actor
from engine.drops.service import Drops
from engine.errors import Refused
from engine.ledger.erase import Erasures
from engine.members.model import Session
from engine.members.service import Members
from engine.members.session import IdentityUnavailable, SessionInvalid, SessionTokens
from engine.notices.feed import Feed
from engine.organisations.service import Organisations
from engine.rates.control import RushControl
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings


class OperatorsOnly(Refused):
    code: ClassVar[str] = "operators-only"


@dataclass(frozen=True, slots=True)
class Services:
    """What one API process works with, made once at its start."""

    settings: Settings
    stores: Stores
    drops: Drops
    draws: Draws
    campaigns: Campaigns
    claims: Claims
    sessions: SessionTokens
    organisations: Organisations
    members: Members
    erasures: Erasures
    control: RushControl
    feed: Feed
    ending: asyncio.Event  # set at the process's graceful end: whoever streams then ends too


async def services(request: Request) -> Services:  # async: FastAPI would run a plain function in a thread, each time
    found: Services = request.app.state.services
    return found


_bearer = HTTPBearer(auto_error=False, description="A session token: `flashclaim token member|operator` makes one.")


async def session(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Session:
    """Who asks; a session without attributes is completed from the member's row in the ledger."""
    use = await services(request)
    if credentials is None:
        raise SessionInvalid("send a session token in the header `Authorization: Bearer <token>`")
    found = await use.sessions.verify(credentials.credentials)
    if found.attributes or found.role == "operator":
        return found
    return await use.members.completed(found)


async def asked_session(request: Request, found: Annotated[Session, Depends(session)]) -> Session:
    """Who asks for a ticket, or for what a ticket needs: within the rates of ticket requests.

    Raises `Denied`, `SlowDown`, `ClientKeyInvalid`.
    """
    control = (await services(request)).control
    address, member = address_of(request), found.member_id.encode()
    client_key = headers_of(request).get(b"x-client-key")
    control.check_asker(address, client_key, member)
    if control.shared is not None:
        await control.shared.spend(control.tickets.wanted(address, client_key, member))
    return found


def address_of(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def headers_of(request: Request) -> dict[bytes, bytes]:
    return dict(reversed(request.headers.raw))  # of a header that stands twice the first counts


async def operator(found: Annotated[Session, Depends(session)]) -> Session:
    if found.role != "operator":
        raise OperatorsOnly("this is for operators: use an operator's session token")
    return found


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks on a route that is anybody's; `failure` is why the session that was given is none."""

    session: Session | None = None
    failure: SessionInvalid | IdentityUnavailable | None = None


async def asker(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Asker:
    """Who asks on a route that is anybody's; a session that does not hold closes it to nobody."""
    if credentials is None:
        return Asker()
    try:
        return Asker(await (await services(request)).sessions.verify(credentials.credentials))
    except (SessionInvalid, IdentityUnavailable) as error:
        return Asker(failure=error)


async def actor(
    found: Annotated[Session, Depends(operator)],
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            pattern="^[!-~]+$",
            description="Any text of your own: the same request sent again under the same key is done once.",
        ),
    ] = None,
) -> Actor:
    """The operator who acts, and the key by which a request that is sent again is recognised."""
    return Actor(found.member_id, idempotency_key)


async def json_body(request: Request) -> Any:
    """The decoded JSON body; raises `BodyInvalid` or `MediaType`."""
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise MediaType(f"send the body as application/json, not {content_type[:60] or 'without a type'}")
    try:
        text = (await request.body()).decode()
        found = json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_number)
        json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate can be written in JSON, but kept nowhere
    except (ValueError, RecursionError) as error:
        raise BodyInvalid(f"body: not JSON: {error}", field="body") from None
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a name that stands twice a proxy may judge the one value, and we would take the other."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:80]!r} stands twice")
        found[name] = value
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number")


def only(body: Any, *names: str) -> dict[str, Any]:
    """A body that must be an object of these names; raises `BodyInvalid` for any other, rather than ignore it."""
    if not isinstance(body, dict):
        raise BodyInvalid(f"body: expected an object with {', '.join(names)}", field="body")
    for name in body:
        if name not in names:
            raise BodyInvalid(f"body: unknown name {name[:80]!r}: known are {', '.join(names)}", field=name[:80])
    return body


ServicesDep = Annotated[Services, Depends(services)]
SessionDep = Annotated[Session, Depends(session)]
AskedSession = Annotated[Session, Depends(asked_session)]
OperatorDep = Annotated[Session, Depends(operator)]
AskerDep = Annotated[Asker, Depends(asker)]
PageLimit = Annotated[int, Query(ge=1, le=PAGE_ROWS_MAX)]
ActorDep = Annotated[Actor, Depends(actor)]
JsonBody = Annotated[Any, Depends(json_body)]  # behind who asks: dependencies are worked out in a route's own order
