"""The house rules of style.md, as tests: where imports may point, how long things may be, what scripts must say."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lua
from engine.claims.model import Decision, Verdict, refusal
from engine.errors import FlashclaimError
from engine.runtime.settings import Settings

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "cli", "engine", "loadtests", "lua")
MAY_IMPORT = {
    "lua": {"lua"},
    "engine": {"engine", "lua"},
    "api": {"api", "engine"},
    "loadtests": {"loadtests", "engine", "cli", "lua"},  # the scripts themselves are measured
    "cli": {"cli", "engine", "api", "loadtests"},
}
BANNED_NAMES = {"utils", "helpers", "common", "core", "manager", "base", "lib", "misc"}
FILE_LINES_MAX, FUNCTION_LINES_MAX = 400, 50
LONG_FILES = {"engine/draws/verify.py"}  # people download and read it as one: the rule, its formats, the checks
LONG_FUNCTIONS = {"upgrade"}  # a migration is written once and read as a list
WRITES = {"HSET", "HDEL", "XADD", "DEL", "UNLINK", "RENAME", "SET", "XGROUP"}
SCRIPTS = sorted(path.stem for path in (ROOT / "lua").glob("*.lua"))


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for package in (*PACKAGES, "tests"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_imports_point_one_way() -> None:
    wrong = [
        f"{path} imports {name}"
        for path, tree in sources()
        if path.parts[0] in PACKAGES
        for name in imported(tree)
        if name.partition(".")[0] in PACKAGES and name.partition(".")[0] not in MAY_IMPORT[path.parts[0]]
    ]
    assert wrong == []


def test_models_do_no_io() -> None:
    io = {"redis", "sqlalchemy", "asyncpg", "httpx", "asyncio", "socket", "subprocess", "os", "time", "random"}
    wrong = [
        f"{path} imports {name}"
        for path, tree in sources()
        if path.name in {"model.py", "promises.py", "figures.py", "admission.py", "wire.py", "spec.py"}
        for name in imported(tree)
        if name.partition(".")[0] in io
    ]
    assert wrong == []


def test_no_room_reads_another_rooms_store() -> None:
    """A service asks a service; the ledger's own jobs (ingest, audit) stand above the rooms and read their stores."""
    wrong = [
        f"{path} imports {name}"
        for path, tree in sources()
        if path.parts[0] == "engine" and path.parts[1] in {"campaigns", "claims", "drops", "members"}
        for name in imported(tree)
        if re.fullmatch(r"engine\.(?!ledger)\w+\.store", name)
        and name.split(".")[1] != path.parts[1]
        and name != "engine.claims.store"  # the one way to run a script
    ]
    assert wrong == []


def test_files_and_functions_stay_small() -> None:
    long = []
    for path, tree in sources():
        lines = (ROOT / path).read_text(encoding="utf-8").count("\n")
        if lines > FILE_LINES_MAX and path.parts[0] != "tests" and str(path) not in LONG_FILES:
            long.append(f"{path}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > FUNCTION_LINES_MAX and node.name not in LONG_FUNCTIONS | {"register"}:
                    long.append(f"{path}: {node.name} has {length} lines")
    assert long == []


def test_the_verifier_is_one_file_that_needs_nothing() -> None:
    tree = ast.parse((ROOT / "engine" / "draws" / "verify.py").read_text(encoding="utf-8"))
    assert {name.partition(".")[0] for name in imported(tree)} <= sys.stdlib_module_names


def test_names_say_what_is_in_a_file() -> None:
    assert [str(path) for path, _ in sources() if set(path.with_suffix("").parts) & BANNED_NAMES] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path)
        for path, tree in sources()
        if path.parts[0] != "tests" and tree.body and ast.get_docstring(tree) is None and path.name != "__main__.py"
    ]
    assert silent == []


def test_every_error_has_a_code_of_its_own() -> None:
    codes: dict[str, type] = {}
    waiting = list(FlashclaimError.__subclasses__())
    while waiting:
        found = waiting.pop()
        waiting += found.__subclasses__()
        if "code" in vars(found):
            assert codes.setdefault(found.code, found) is found, f"{found} and {codes[found.code]} share a code"


@pytest.mark.parametrize("name", SCRIPTS)
class TestScripts:
    def test_the_head_names_the_keys_and_arguments_that_the_body_uses(self, name: str) -> None:
        script = lua.load(name)
        body = (ROOT / "lua" / f"{name}.lua").read_text().partition("--]]")[2]
        for kind, names in (("KEYS", script.keys), ("ARGV", script.arguments)):
            indexed = {int(number) for number in re.findall(rf"{kind}\[(\d+)\]", body)}
            rest = [int(number) for number in re.findall(rf"unpack\({kind}, (\d+)\)", body)]
            plain = [found for found in names if not found.endswith("…")]
            assert indexed == set(range(1, len(plain) + 1)), f"{kind} in the head and in the body differ"
            assert rest == ([len(plain) + 1] if len(names) > len(plain) else [])
            for found in names:
                uses = re.findall(rf"\b{found.rstrip('…')}\b", body)
                assert len(uses) >= 2, f"{found} is named and never used"

    def test_keys_and_arguments_become_names_in_the_first_lines(self, name: str) -> None:
        body = (ROOT / "lua" / f"{name}.lua").read_text().partition("--]]")[2].strip().splitlines()
        code = [line for line in body if line and not line.startswith("--@include")]
        last = max(index for index, line in enumerate(code) if "KEYS[" in line or "ARGV[" in line or "(ARGV" in line)
        assert last < 4

    def test_the_head_tells_purpose_replies_cost_and_bound(self, name: str) -> None:
        head = (ROOT / "lua" / f"{name}.lua").read_text().partition("--]]")[0]
        for title in ("KEYS\n", "ARGV\n", "Replies\n", "Cost ", "Bound "):
            assert f"\n{title}" in head

    def test_writes_come_after_all_reads(self, name: str) -> None:
        """A script that fails midway is not rolled back: so nothing is read or checked after the first write."""
        text = lua.load(name).text
        leaving = re.findall(r"^if [^\n]*\n(?:  [^\n]*\n)*?  return [^\n]*\nend\n", text, re.MULTILINE)
        for block in leaving:
            text = text.replace(block, "")
        for path in (text, *leaving):
            calls = re.findall(r"redis\.call\('(\w+)'", path)
            writes = [index for index, call in enumerate(calls) if call in WRITES]
            reads = [index for index, call in enumerate(calls) if call not in WRITES]
            assert max(reads, default=-1) < min(writes, default=len(calls))
            if "XADD" in calls:
                assert calls[writes[0]] == "XADD", "if even the outbox entry fails, nothing has happened"


def test_the_verdicts_are_the_same_in_lua_and_python() -> None:
    text = (ROOT / "lua" / "includes" / "_verdict.lua").read_text()
    assert {name: int(number) for name, number in re.findall(r"(\w+) = (\d+)", text)} == {
        verdict.name.lower(): int(verdict) for verdict in Verdict
    }


def test_every_verdict_has_its_problem() -> None:
    from api.problems import PROBLEMS

    facts: dict[Verdict, tuple[int, ...]] = dict.fromkeys(Verdict, (1,))
    facts |= {Verdict.LIMIT_REACHED: (1, 1), Verdict.SOLD_OUT: (0, 0), Verdict.CAMPAIGN_LIMIT_REACHED: (2, 1, 1, 0)}
    for verdict in set(Verdict) - {Verdict.ACCEPTED, Verdict.REPEATED}:
        found = refusal(Decision(verdict, facts=facts[verdict]), 0)
        assert found.code in PROBLEMS
        assert verdict is Verdict.STALE_EPOCH or found.code == verdict.name.lower().replace("_", "-")


def test_every_refusal_is_documented_with_the_example_of_the_openapi_document() -> None:
    from api.openapi import section
    from api.problems import PROBLEMS

    page = (ROOT / "docs" / "reference" / "answers.md").read_text(encoding="utf-8")
    missing = [section(code) for code in PROBLEMS if section(code) not in page]
    assert missing == [], "put these into docs/reference/answers.md:\n" + "\n".join(missing)


def test_what_each_step_of_the_ledger_back_loses_is_told() -> None:
    page = (ROOT / "docs" / "how-to.md").read_text(encoding="utf-8")
    steps = sorted((ROOT / "engine" / "ledger" / "migrations" / "versions").glob("v0*.py"), reverse=True)
    assert re.findall(r"^\| (\d{4}) \|", page, re.MULTILINE) == [path.name[1:5] for path in steps]


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f"`{name}`" not in page] == []


def test_no_registry_host_is_named() -> None:
    hosts = re.compile(r"pypi\.org|pythonhosted")
    tracked = [path for path in ROOT.rglob("*") if path.suffix in {".py", ".md", ".toml", ".lock", ".yaml", ".lua"}]
    found = [
        str(path)
        for path in tracked
        if not {".venv", ".git", ".flashclaim"} & set(path.relative_to(ROOT).parts)
        and path != Path(__file__)
        and hosts.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []
