"""The one loader of the scripts: resolves includes, reads the head block, and knows the SHA that EVALSHA wants.

A script names its keys and arguments in its head block; `keys` and `arguments` are those names, so that a test can
compare them with what the body uses.
"""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files

_INCLUDE = re.compile(r"^--@include (_\w+)\n", re.MULTILINE)
_HEAD = re.compile(r"\A--\[\[\n(?P<name>\w+): (?P<text>.*?)\n--\]\]\n", re.DOTALL)
_NAMED = re.compile(r"^  (\w+)(…?)  ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script as it is sent to the store: its text, the SHA-1 of it, and the names from its head block."""

    name: str
    text: str
    sha: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...]


class ScriptFaulty(ValueError):
    """A script without the head block that every script has, or with an include that is not there."""


@cache
def load(name: str, now: str = "_now") -> Script:
    """The script `lua/<name>.lua` with its includes put in.

    `now` is the include that tells the time: tests pass another one, found in `tests/lua/stubs/`, as Lua text.
    """
    source = _read(f"{name}.lua")
    head = _HEAD.match(source)
    if head is None or head["name"] != name:
        raise ScriptFaulty(f"lua/{name}.lua does not begin with a head block that names it")
    text = _INCLUDE.sub(lambda found: now if found[1] == "_now" and now != "_now" else _include(found[1]), source)
    return Script(
        name=name,
        text=text,
        sha=sha1(text.encode(), usedforsecurity=False).hexdigest(),
        keys=_names(head["text"], "KEYS"),
        arguments=_names(head["text"], "ARGV"),
    )


def _include(name: str) -> str:
    try:
        return _read(f"includes/{name}.lua")
    except FileNotFoundError:
        raise ScriptFaulty(f"there is no lua/includes/{name}.lua") from None


def _names(head: str, title: str) -> tuple[str, ...]:
    section = re.search(rf"^{title}\n((?:  .*\n?)+)", head, re.MULTILINE)
    return tuple(name + more for name, more in _NAMED.findall(section[1])) if section else ()


def _read(path: str) -> str:
    return files(__name__).joinpath(path).read_text(encoding="utf-8")
