"""A message to a member, an event for programs, and which language somebody reads: pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from engine.errors import Refused, Unavailable

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
_ACCEPT_CHARS_MAX = 200  # of an Accept-Language that are looked at: browsers send some fifty


class NoSuchMessage(Refused):
    """The inbox has no message of this number, or not any more."""

    code: ClassVar[str] = "no-such-message"


class TooManyStreams(Unavailable):
    """As many live streams are open as one member, or one process, may have."""

    code: ClassVar[str] = "too-many-streams"


class Message(NamedTuple):
    """What a member is to be told: `kind` and `facts` make its texts (kinds.py).

    `once` is what makes it the same message when it is told again, such as `draw:geese-2025:won`: it is told once.
    """

    member_id: str
    kind: str
    facts: Mapping[str, Any]
    once: str


class Received(NamedTuple):
    """A message in an inbox; `number` is its place there, from 1 without gaps, in the order of telling."""

    member_id: str
    number: int
    kind: str
    texts: Mapping[str, str]
    facts: Mapping[str, Any]
    created_at: datetime
    read_at: datetime | None


class Event(NamedTuple):
    """What happened to an object, such as `drop:lychee-2025`; thin: whoever reads it asks for the rest."""

    kind: str
    object: str
    payload: Mapping[str, Any] = {}


class Placed(NamedTuple):
    """An event with its place in the line, by which a reader goes on."""

    place: int
    event: Event
    created_at: datetime


def language(accepted: str) -> Language:
    """The one of our languages that an Accept-Language header prefers; Chinese where it says nothing that we know.

    Source: RFC 9110, 12.5.4.
    """
    best: tuple[float, Language] = (0.0, "zh")
    for part in accepted[:_ACCEPT_CHARS_MAX].split(","):
        tag, _, rest = part.strip().lower().partition(";")
        weight = _weight(rest.strip())
        for known in LANGUAGES:
            if tag.split("-")[0].strip() == known and weight > best[0]:
                best = weight, known
    return best[1]


def _weight(text: str) -> float:
    if not text:
        return 1.0
    name, _, value = text.partition("=")
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if name.strip() == "q" and 0 <= weight <= 1 else 0.0
