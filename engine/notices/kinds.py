"""The kinds of messages: what each says, in zh and in en.

How to add one: a line in `KINDS`. Each `{name}` in its texts is a fact that whoever tells has to give: a text or a
number for both languages, or a text for each (`{"zh": "烧鹅", "en": "roast goose"}`, as titles are; where one is
missing the other stands in). A fact that is missing stops the telling, and with it the transaction that would have
told. Other facts may be given too, for programs: they are kept beside the texts. Texts are made when they are told: a
change here changes no message that somebody has.
"""

from collections.abc import Mapping
from string import Formatter
from typing import Any, NamedTuple

from engine.bounds import MESSAGE_CHARS_MAX
from engine.notices.model import LANGUAGES, Language


class Template(NamedTuple):
    """What a kind says."""

    zh: str
    en: str


KINDS: Mapping[str, Template] = {
    "prize-arrived": Template(
        zh="您在“{draw}”中抽中的{prize}已到账，请到“我的卡券”查看。",
        en="The {prize} that you drew in “{draw}” has arrived: see your coupons.",
    ),
    "draw-won": Template(
        zh="您在“{draw}”中抽中了{prize}，请在{until}前确认领取，逾期由候补者递补。",
        en="You won the {prize} in “{draw}”. Confirm it before {until}, or the next on the waiting list gets it.",
    ),
    "draw-waiting": Template(
        zh="您在“{draw}”的候补名单上，有奖品空出时会通知您。",
        en="You are on the waiting list of “{draw}”. You will be told when a prize comes free.",
    ),
    "draw-lapsed": Template(
        zh="您在“{draw}”中抽中的{prize}逾期未确认，已由候补者递补。",
        en="You did not confirm the {prize} of “{draw}” in time: the next on the waiting list gets it.",
    ),
    "draw-declined": Template(
        zh="您已放弃“{draw}”的奖品。",
        en="You gave up your place in “{draw}”.",
    ),
}


def written(kind: str, facts: Mapping[str, Any]) -> dict[Language, str]:
    """The texts of a message. Raises `ValueError` for an unknown kind, a fact that is missing, a text too long."""
    template = KINDS.get(kind)
    if template is None:
        raise ValueError(f"there is no kind of message {kind!r}: there are {', '.join(KINDS)}")
    texts: dict[Language, str] = {}
    for language, pattern in zip(LANGUAGES, (template.zh, template.en), strict=True):
        named = {name: _spoken(kind, name, facts, language) for name in names(pattern)}
        text = pattern.format_map(named)
        if len(text) > MESSAGE_CHARS_MAX:
            raise ValueError(f"a message {kind!r} would have {len(text)} characters, {MESSAGE_CHARS_MAX} is the most")
        texts[language] = text
    return texts


def names(pattern: str) -> list[str]:
    """The facts that a text names."""
    return [name for _, name, _, _ in Formatter().parse(pattern) if name is not None]


def _spoken(kind: str, name: str, facts: Mapping[str, Any], language: Language) -> str:
    fact = facts.get(name)
    if isinstance(fact, Mapping):
        fact = fact.get(language) or next((fact[other] for other in LANGUAGES if fact.get(other)), None)
    if fact is None or isinstance(fact, bool) or not isinstance(fact, str | int):
        raise ValueError(f"a message {kind!r} needs the fact {name!r}: a text, a number, or a text for each language")
    return str(fact)
