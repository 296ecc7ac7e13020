"""What other rooms call, inside their own transactions: tell members something, announce what happened.

All of it is there once the caller commits, or nothing of it.
"""

import json
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.bounds import MESSAGE_FACTS_BYTES_MAX, MESSAGES_TOLD_MAX
from engine.notices import store
from engine.notices.kinds import written
from engine.notices.model import Event, Message

announce = store.announce


async def tell(connection: AsyncConnection, messages: Sequence[Message]) -> int:
    """Put messages into members' inboxes, each once whoever tells it again; how many were new.

    Call it once in a transaction, for all, and near its end: whoever tells the same members waits for it. Each message
    is announced too, as the event `message-told` of `member:…`, for those who send it elsewhere.

    Raises `ValueError` for what makes no message (kinds.py), before anything is written.
    """
    assert len(messages) <= MESSAGES_TOLD_MAX, "tell them in several transactions"
    once = {(message.member_id, message.once): message for message in messages}
    rows = [(message, _json(written(message.kind, message.facts)), _facts(message)) for message in once.values()]
    return await store.tell(connection, rows) if rows else 0


def _facts(message: Message) -> str:
    facts = _json(message.facts)
    if len(facts.encode()) > MESSAGE_FACTS_BYTES_MAX:
        raise ValueError(f"the facts of a message {message.kind!r} are longer than {MESSAGE_FACTS_BYTES_MAX} bytes")
    return facts


def _json(value: object) -> str:
    """JSON as PostgreSQL takes it. Raises `ValueError` for a zero byte and for half a surrogate pair."""
    text = json.dumps(value, ensure_ascii=False)
    if "\\u0000" in text:
        raise ValueError("a text with a zero byte")
    text.encode()
    return text


__all__ = ["Event", "Message", "announce", "tell"]
