"""The promise: docs/security.md names tests that exist, and what stands in this folder is named there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`((?:tests/[\w/]+/)?test_\w+\.py)((?:::\w+)*)`", PAGE)
LINES_MAX = 150


def exists(path: Path, names: list[str]) -> bool:
    if not path.is_file():
        return False
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    for name in names:
        found = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
        same = [node for node in found if node.name == name]
        if not same or not name.lower().startswith("test"):
            return False
        body = same[0].body
    return True


def test_every_test_that_the_page_names_exists() -> None:
    missing = []
    for path, names in NAMED:
        file = ROOT / path if "/" in path else HERE / path
        if not exists(file, names.split("::")[1:]):
            missing.append(path + names)
    assert missing == []
    assert len(NAMED) >= 60, "the names are no longer found: has their form changed?"


def test_a_name_that_does_not_exist_would_be_found() -> None:
    assert exists(Path(__file__), ["test_a_name_that_does_not_exist_would_be_found"])
    assert not exists(Path(__file__), ["test_nothing"])
    assert not exists(Path(__file__), ["exists"])
    assert not exists(HERE / "test_nothing.py", [])


def test_every_module_here_is_named_on_the_page() -> None:
    named = {path for path, _ in NAMED}
    assert {path.name for path in HERE.glob("test_*.py")} - named == set()


def test_every_row_of_a_table_of_answers_names_its_test() -> None:
    rows = [line for line in PAGE.partition("## OWASP")[2].splitlines() if line.startswith("| ") and " | " in line]
    heads = {"| risk | how it is countered | test |", "| attack | answer | test |"}
    assert [row for row in rows if row not in heads and "`test" not in row.rpartition(" | ")[2]] == []


def test_the_page_is_short() -> None:
    assert PAGE.count("\n") < LINES_MAX
