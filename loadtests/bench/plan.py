"""What a load generator sends: one request, whose token differs from one to the next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

_AGENT = (
    "Mozilla/5.0 (Linux; Android 15; Phone) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Mobile Safari/537.36"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """`head` + token + `tail` is a whole HTTP/1.1 request; the tokens lie in a file, one a line, each used once."""

    head: str
    tail: str
    tokens: Path

    def split(self, count: int) -> tuple["Plan", "Plan"]:
        """The same with the first `count` tokens, and with the others."""
        tokens = self.tokens.read_text(encoding="ascii").splitlines(keepends=True)
        first = replace(self, tokens=self.tokens.with_name("tokens-first"))
        first.tokens.write_text("".join(tokens[:count]), encoding="ascii")
        self.tokens.write_text("".join(tokens[count:]), encoding="ascii")
        return first, self


def write(path: str, header: str, tokens: Sequence[str], file: Path) -> Plan:
    """A POST as a phone's browser sends it, with the token at the end of `header`; the tokens are of one length.

    The middle of the request falls on the end of the token: wrk's LuaJIT hashes a long text by a few bytes at its ends
    and in its middle, and is eight times slower when those are the same in all of them.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}"
    before, after = "\r\nUser-Agent: ", "\r\nAccept: */*\r\nContent-Length: 0\r\n\r\n"
    room = len(head) + len(tokens[0]) - 4 - len(before) - len(after)
    file.write_text("\n".join(tokens) + "\n", encoding="ascii")
    return Plan(head, before + (_AGENT * 3)[: max(1, room)] + after, file)
