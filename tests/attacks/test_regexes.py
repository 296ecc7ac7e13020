"""The promise: no text makes a regular expression work long (ReDoS): time grows with the length, not with its square.

Every pattern of the program is found by reading the code, so that a new one is tried too.
"""

import ast
import importlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.bounds import HEAD_BYTES_MAX

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "cli", "engine", "loadtests", "lua")
SOON_S = 1.0  # of the processor, for a text as long as the longest head; a square would be minutes
# Read our own files and pages, never what comes from outside; they are tried with texts as long as those.
OWN_TEXT = {"api.routes.docs._SCRIPT", "lua._HEAD", "lua._INCLUDE", "lua._NAMED", "loadtests.bench.whole._LAG"}
OWN_CHARS_MAX = 4_096
INLINE = {"lua/__init__.py": 1}  # re.search over a script's own head
CALLS = {"match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}


def found() -> Iterator[tuple[str, int, int]]:
    """Each file with how many patterns it compiles at its import, and how many it uses without."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
            calls = [node.func for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
            of_re = [call.attr for call in calls if isinstance(call.value, ast.Name) and call.value.id == "re"]
            imported = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "re"]
            assert not imported, f"{path}: `import re`, so that this test finds what is used"
            yield str(path.relative_to(ROOT)), of_re.count("compile"), sum(call in CALLS for call in of_re)


def patterns() -> dict[str, "re.Pattern[str] | re.Pattern[bytes]"]:
    named: dict[str, re.Pattern[str] | re.Pattern[bytes]] = {}
    for path, compiled, _ in found():
        if compiled:
            module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            here = {
                f"{module}.{k}": v
                for k, v in vars(importlib.import_module(module)).items()
                if isinstance(v, re.Pattern)
            }
            assert len(here) == compiled, f"{path}: give each pattern a name of its own in the module"
            named |= here
    return named


PATTERNS = patterns()


def hostile(pattern: str, length: int) -> Iterator[str]:
    """Texts out of what the pattern itself speaks of, repeated, with an end that does not fit."""
    words = [
        "a",
        "0",
        "A",
        " ",
        "-",
        ".",
        "/",
        "<",
        "\n",
        "\t",
        "_",
        "é",
        "\0",
        "a-",
        "a.",
        "--\n",
        "  a  ",
        "<script>",
        "--[[\n",
    ]
    words += ["  x  \n", "--@include _a\n", "/v1/drops/", "a" * 59 + "!", "a" * 64 + ".", "{0}", '"', "=", ","]
    words += re.findall(r"[A-Za-z0-9_/<>@ -]{2,}", pattern)
    for word in words:
        repeated = (word * (length // len(word) + 1))[:length]
        yield repeated
        yield repeated + "!"
        yield "\n" + repeated + "\0"
        for start in ("/v1/drops/", "<script>", "--[[\na: ", "a"):
            yield start + repeated + "\x7f"


def test_there_are_patterns_and_none_is_hidden() -> None:
    assert len(PATTERNS) >= 10
    assert PATTERNS.keys() >= OWN_TEXT
    assert {path: inline for path, _, inline in found() if inline} == INLINE


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_ends_soon_whatever_it_reads(name: str) -> None:
    pattern = PATTERNS[name]
    length = OWN_CHARS_MAX if name in OWN_TEXT else HEAD_BYTES_MAX
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode()
    for text in hostile(source, length):
        since_s = time.process_time()
        for use in (pattern.fullmatch, pattern.match, pattern.search, pattern.findall):
            use(text if isinstance(pattern.pattern, str) else text.encode())  # type: ignore[arg-type]
        assert time.process_time() - since_s < SOON_S, text[:80]


def test_a_pattern_that_does_not_end_soon_would_be_found() -> None:
    """The net has no hole where it matters: the usual kinds of bad patterns are caught by these very texts."""
    for bad, length in ((r"(a+)+$", 24), (r"(a|a)*$", 24), (r"(.*a){9}$", 28)):  # which double by the sign, or less
        pattern, slowest_s = re.compile(bad), 0.0
        for text in hostile(bad, length):
            since_s = time.process_time()
            pattern.match(text)
            slowest_s = max(slowest_s, time.process_time() - since_s)
            if slowest_s > 0.05:
                break
        assert slowest_s > 0.05, bad
