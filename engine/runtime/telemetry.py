"""Logs: structured, to standard error, without secrets.

Nothing in flashclaim logs a ticket, a receipt or a session token; the processor below is the second line, should one
ever reach a log by way of an exception.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

# Tickets, receipts and session tokens are the only texts of this length without a space that we handle.
_SECRET = re.compile(r"[A-Za-z0-9_-]{60,}(\.[A-Za-z0-9_-]+)*")

# C1 controls and Unicode's line ends: JSON leaves them as they are, terminals and log readers may act on them.
_UNSEEN = re.compile(r"[\x7f-\x9f\u2028\u2029]")


def configure_logs(log_format: Literal["json", "console"]) -> None:
    """Log as JSON lines for machines, or in colours for people."""
    renderer = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            hide_secrets,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def hide_secrets(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what looks like a ticket, a receipt or a token in any text of a log entry, and what hides in a line."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _UNSEEN.sub("\ufffd", _SECRET.sub("…", value))
    return event
