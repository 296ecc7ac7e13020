"""`bare`: an ASGI app on uvicorn that answers a constant. What the server alone costs; it decides nothing."""

from starlette.types import Receive, Scope, Send

_BODY = b'{"claim_id":"bench.0.1","serial":1}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]


async def app(scope: Scope, _: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 201, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _BODY})
