"""Logs: structured, to standard error, without secrets.

Nothing in flashclaim logs a ticket, a receipt, a session token, a password or an ID number; `without_secrets` is the
second line, should one ever reach a log or a terminal by way of an exception. It works on whole lines, so that it also
sees what stands inside a list, an exception's text or a traceback.
"""

import logging
import re
import sys
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor

from engine.members.id_number import is_id_number

# Lengths are bounded, and a word is looked at once: a client's text in a log line must not cost more than its length.
_PASSWORD = re.compile(r"""(?<=://)[^/\s"'@:]{0,100}:[^\s"']{1,200}(?=@)|(?<=[?&]password=)[^&\s"']+""")
_WORD = re.compile(r"[A-Za-z0-9_.-]{20,}")
_LONG = re.compile(r"[A-Za-z0-9_-]{60}")  # a ticket, a receipt, a key in hexadecimal
_JSON_START = "eyJ"  # what a session token begins with: base64 of `{"`

_CARD = re.compile(r"(?<![0-9])[1-9][0-9]{16}[0-9Xx](?![0-9])")  # an ID number, if its check fits

# C1 controls and Unicode's line ends: JSON leaves them as they are, terminals and log readers may act on them.
_UNSEEN = re.compile(r"[\x7f-\x9f\u2028\u2029]")


def configure_logs(log_format: Literal["json", "console"]) -> None:
    """Log as JSON lines for machines, or in colours for people."""
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _hiding(renderer),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Servers and libraries log by the standard library: uvicorn with handlers of its own, the others by the root's.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for name in (None, "uvicorn", "uvicorn.access"):
        for handler in logging.getLogger(name).handlers:
            if not isinstance(handler.formatter, HidingFormatter):
                handler.setFormatter(HidingFormatter(handler.formatter))


class HidingFormatter(logging.Formatter):
    """Formats as another one does, without secrets."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return _UNSEEN.sub("\ufffd", without_secrets(self._inner.format(record)))


def _hiding(render: Processor) -> Processor:
    """The last step of a log line."""

    def rendered(logger: Any, method: str, event: EventDict) -> str:
        return _UNSEEN.sub("\ufffd", without_secrets(str(render(logger, method, event))))

    return rendered


def without_secrets(text: str) -> str:
    """A text in which what looks like a ticket, a receipt, a token, a key, a password or an ID number is a dot."""
    return _CARD.sub(_number_hidden, _WORD.sub(_hidden, _PASSWORD.sub("…", text)))


def _hidden(found: re.Match[str]) -> str:
    word = found[0]
    is_secret = _LONG.search(word) or (_JSON_START in word and "." in word)
    return "…" if is_secret else word


def _number_hidden(found: re.Match[str]) -> str:
    return "…" if is_id_number(found[0]) else found[0]
