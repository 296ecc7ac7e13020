"""The promise: no secret, ticket, receipt, token or password reaches a log, wherever in an entry it stands."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import structlog

from engine.claims import receipt, ticket
from engine.claims.keyring import Keyring
from engine.claims.wire import ClaimRequest, pack_request
from engine.members.model import Session
from engine.members.session import SessionTokens
from engine.runtime.settings import Settings
from engine.runtime.telemetry import configure_logs, without_secrets

KEYRING = Keyring(1, {1: b"k" * 32})
REQUEST = ClaimRequest(bytes(8), 1, 1, "m", "m")
SECRETS = {
    "ticket": ticket.seal(KEYRING, "d", REQUEST, 1, 2),
    "receipt": receipt.sign(KEYRING, "d", 0, 1, 1, pack_request(REQUEST)),
    "key": "3f" * 32,
    "jwt of a provider": "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2hvcnQ",
    "redis password": "redis://:hunter22@store:6379/0",
    "odd password": "postgresql://fc:hunter22@x@ledger/flashclaim",
    "id number": "11010519491231002X",
    "password by name": "postgresql://ledger/flashclaim?password=hunter22&x=1",
}


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    before = [(handler, handler.formatter) for handler in logging.getLogger().handlers]
    yield
    structlog.reset_defaults()
    for handler, formatter in before:
        handler.setFormatter(formatter)


def left_of(name: str) -> str:
    return "hunter22" if "password" in name else SECRETS[name]


@pytest.mark.parametrize("layout", ["json", "console"])
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_hidden_wherever_it_stands(capsys: pytest.CaptureFixture[str], layout: str, name: str) -> None:
    configure_logs("json" if layout == "json" else "console")
    logger, secret = structlog.get_logger("test"), SECRETS[name]
    logger.info(f"saw {secret} here", plain=secret, listed=[secret], inner={"a": {secret: secret}}, raw=secret.encode())
    logger.warning("failed", error=ValueError(secret))
    try:
        raise RuntimeError(f"broke over {secret}")
    except RuntimeError:
        logger.exception("request failed")
    log = capsys.readouterr().err
    assert "request failed" in log
    assert left_of(name) not in log
    assert "…" in log


@pytest.mark.parametrize("logger", ["asyncio", "uvicorn.error", "sqlalchemy.engine"])
def test_what_libraries_log_is_without_secrets_too(logger: str) -> None:
    """In a process of its own: pytest has handlers that would take the place of ours."""
    program = f"""
import logging, logging.config, uvicorn.config
from engine.runtime.telemetry import configure_logs
logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG)
for _ in range(2):
    configure_logs("json")
try:
    raise ValueError("{SECRETS["ticket"]}")
except ValueError:
    logging.getLogger("{logger}").exception("broke over %s", "{SECRETS["redis password"]}")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    said = done.stdout + done.stderr
    assert said.count("broke over") == 1
    assert "Traceback" in said
    assert SECRETS["ticket"] not in said
    assert "hunter22" not in said


def test_a_session_token_of_ours_is_hidden(settings: Settings) -> None:
    token = SessionTokens(settings).issue(Session("m-1", "m-1"), 600)
    shown = without_secrets(f"Authorization: Bearer {token}")
    assert not {part for part in token.split(".") if part in shown}


def test_what_is_no_secret_stays(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    fields = {
        "method": "POST",
        "route": "/v1/drops/{drop_id}/claims",
        "path": "/v1/drops/lychee-2025/claims",
        "request_id": "0f3a9c21-7b",
        "url": "http://127.0.0.1:8000",
        "claim": "lychee-2025.0.5600",
    }
    structlog.get_logger("test").info("answered", **fields)
    assert fields.items() <= json.loads(capsys.readouterr().err).items()


@pytest.mark.parametrize(
    "text", ["A" * 1_000_000, "://" + "a:" * 300_000, "eyJ" * 300_000, "eyJaaaaaaaa." * 90_000, "://a:" * 200_000]
)
def test_hiding_takes_time_in_step_with_the_text(text: str) -> None:
    """A log line may hold what a client sent: no text may make the process busy."""
    began_s = time.perf_counter()
    without_secrets("://" + text * (1_000_000 // len(text)))
    assert time.perf_counter() - began_s < 2
