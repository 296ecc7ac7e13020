"""The promise: each of the 22 promises has its page, and every test, function, metric and fault on it is real."""

import ast
import re
from pathlib import Path

import pytest

from engine.ledger.promises import PROMISES
from tests.faults.faults import FAULTS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "promises"
INDEX = (FOLDER / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("[0-9][0-9]-*.md"))}
LINES_MIN, LINES_MAX = 12, 25
_TEST = re.compile(r"`(tests/[\w/]+\.py)((?:::\w+)*)")
_METRIC = re.compile(r"\bflashclaim_[a-z_]+")
_FILE = re.compile(r"`((?:api|cli|engine|lua|tests)/[\w./]*)[`:]")


def exists(path: Path, names: list[str]) -> bool:
    """Whether a module has a test of this name: a class, then a function in it."""
    if not path.is_file():
        return False
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    for name in names:
        found = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
        same = [node for node in found if node.name == name and name.lower().startswith("test")]
        if not same:
            return False
        body = same[0].body
    return True


def exported() -> set[str]:
    """Every metric by the name under which it is exported: a counter has `_total` behind its own."""
    found = set()
    for package in ("api", "cli", "engine"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
                    continue
                name = node.args[0]
                if node.func.id in {"Counter", "Gauge", "Histogram"} and isinstance(name, ast.Constant):
                    found.add(str(name.value) + "_total" * (node.func.id == "Counter"))
    return found


def test_there_are_twenty_two_pages_and_the_index_links_each() -> None:
    assert [name[:2] for name in PAGES] == [f"{number:02d}" for number in range(1, 23)]
    assert [name for name in PAGES if f"]({name})" not in INDEX] == []


@pytest.mark.parametrize("name", PAGES)
class TestPage:
    def test_says_everything_and_is_short(self, name: str) -> None:
        page = PAGES[name]
        assert LINES_MIN <= page.count("\n") <= LINES_MAX
        for part in ("How it is kept:", "- `flashclaim audit`:", "- live:", "- fault drills:", "- tests:"):
            assert f"\n{part}" in page
        assert "\nWhat it does not promise: " in page

    def test_names_tests_that_exist(self, name: str) -> None:
        named = [(path, names.split("::")[1:]) for path, names in _TEST.findall(PAGES[name])]
        tests = next(line for line in PAGES[name].splitlines() if line.startswith("- tests:"))
        assert len(_TEST.findall(tests)) == tests.count("`") // 2 >= 3
        assert [(path, names) for path, names in named if not exists(ROOT / path, names)] == []

    def test_names_faults_metrics_and_files_that_exist(self, name: str) -> None:
        drills = next(line for line in PAGES[name].splitlines() if line.startswith("- fault drills:"))
        named = re.findall(r"`([\w-]+)`", drills)
        assert len(named) >= 2
        assert set(named) - set(FAULTS) == set()
        assert set(_METRIC.findall(PAGES[name])) - exported() == set()
        assert [path for path in _FILE.findall(PAGES[name]) if not (ROOT / path).exists()] == []


def test_every_promise_that_is_a_function_is_named_on_a_page() -> None:
    pages = "".join(PAGES.values())
    assert [promise.__name__ for promise in PROMISES if f"`{promise.__name__}`" not in pages] == []


def test_the_index_names_tests_that_exist() -> None:
    named = [(path, names.split("::")[1:]) for path, names in _TEST.findall(INDEX)]
    assert len(named) >= 10
    assert [(path, names) for path, names in named if not exists(ROOT / path, names)] == []


def test_a_name_that_does_not_exist_would_be_found() -> None:
    assert exists(Path(__file__), ["TestPage", "test_names_tests_that_exist"])
    assert not exists(Path(__file__), ["test_names_tests_that_exist"])
    assert not exists(Path(__file__), ["exists"])
    assert {"flashclaim_dead_letters_total", "flashclaim_dead_letters_kept"} <= exported()
    assert "flashclaim_dead_letters" not in exported()
