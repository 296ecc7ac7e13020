"""The promise: each command does what its help says, on a real instance; it fails with a sentence and an exit code."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import text

from engine.claims import keys
from engine.runtime.connections import open_stores
from engine.runtime.servers import free_port, is_running, stop_process
from engine.runtime.settings import load_settings
from tests.factories.drops import drop_json
from tests.factories.gates import SLOGANS, quiz_json

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "lychee-2025.yaml"


class Terminal:
    """Types commands against one instance that `flashclaim dev` runs."""

    def __init__(self, data_dir: Path, port: int, *options: str) -> None:
        self.data_dir = data_dir
        self.port = port
        self._options = options
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "cli", "dev", "--port", str(self.port), "--data", str(self.data_dir)]
        command += self._options
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        said = b""
        for line in process.stdout:
            said += line
            if line.startswith(b"ready "):
                return process
        raise AssertionError(said.decode())

    def close(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()

    def run(self, *words: str, stdin: str | None = None, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "cli", *words],
            cwd=ROOT,
            env={**os.environ, "FLASHCLAIM_DATA": str(self.data_dir), **env},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def good(self, *words: str, stdin: str | None = None) -> str:
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pids(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.data_dir / "dev.json").read_text())["pids"]
        return found


@pytest.fixture(scope="module")
def terminal() -> Iterator[Terminal]:
    with tempfile.TemporaryDirectory(prefix="fc-cli-") as name:
        Path(name).chmod(0o755)
        running = Terminal(Path(name), free_port())
        yield running
        stop_process(running.process, grace_s=40)
        running.close()


def test_a_member_goes_their_way_by_hand(terminal: Terminal) -> None:
    terminal.good("drop", "create", str(EXAMPLE), "--id", "byhand", "--opens-in", "0")
    terminal.good("drop", "launch", "byhand")
    session = terminal.good("token", "member", "m-1").strip()
    ticket = terminal.good("ticket", "byhand", "--token", session, "--item", "box-5jin").strip()
    first = json.loads(terminal.good("claim", "byhand", "--ticket", ticket, "--json"))
    assert first["claim_id"] == "byhand.0.1"
    assert json.loads(terminal.good("claim", "byhand", "--ticket", ticket, "--json")) == first
    other = terminal.good("ticket", "byhand", "--token", session, "--item", "box-5jin").strip()
    refused = terminal.run("claim", "byhand", "--ticket", other)
    assert refused.returncode == 1
    assert "the limit is 1" in refused.stderr
    assert refused.stdout == ""
    assert "box-5jin\t5000\t2500\t1\t2499" in terminal.good("drop", "show", "byhand")
    assert json.loads(terminal.good("audit", "byhand", "--json"))["differences"] == 0
    lines = terminal.good("export", "byhand").splitlines()
    assert lines[0].startswith("claim_id,")
    assert lines[1].startswith("byhand.0.1,box-5jin,1,m-1,")
    assert json.loads(terminal.good("export", "byhand", "--format", "jsonl"))["member_id"] == "m-1"


def test_a_member_passes_a_drops_gates_by_hand(terminal: Terminal, tmp_path: Path) -> None:
    gates = {"quiz": quiz_json(), "slogan": SLOGANS, "location": {"towns": ["大朗"]}, "proof_of_work": {"bits": 8}}
    file = tmp_path / "gated.yaml"
    file.write_text(json.dumps(drop_json("gated", gates=gates)))
    terminal.good("drop", "create", str(file))
    terminal.good("drop", "launch", "gated")
    session = terminal.good("token", "member", "m-1").strip()
    asked = terminal.good("gates", "gated", "--token", session).splitlines()
    assert [line.partition("\t")[0] for line in asked] == ["gate", "location", "slogan", "quiz", "proof-of-work"]
    assert asked[3].endswith("questions 3, pass_mark 2, attempts 3, time_limit_s 120")
    words = ["ticket", "gated", "--token", session, "--json"]
    unanswered = terminal.run(*words, "--location", "22.9,113.93", "--slogan", "moon")
    assert unanswered.returncode == 2
    assert "--answer QUESTION=NUMBER" in unanswered.stderr
    shown = re.findall(r"^(q\d): |^  (\d)  (right|wrong)", unanswered.stderr, re.MULTILINE)
    right, question = [], ""
    for question_id, number, word in shown:
        question = question_id or question
        right += ["--answer", f"{question}={number}"] if word == "right" else []
    assert len(right) == 6
    for wrong, code, sentence in (
        (["--location", "22.9;113.93"], 2, "LAT,LON"),
        (["--slogan", "moon", *right[:4]], 2, "answer each of these"),
        (["--slogan", "moon", *right], 2, "location-required"),
        (["--location", "23.0,113.93", "--slogan", "moon", *right], 1, "wrong-town"),
        (["--location", "22.9,113.93", "--slogan", "sun"], 2, "unknown-slogan"),
    ):
        refused = terminal.run(*words, *wrong)
        assert (refused.returncode, refused.stdout) == (code, ""), refused.stderr
        assert sentence in refused.stderr or (wrong[0] == "--location" and "answer" in refused.stderr)
    numbers = "".join(f"{answer.rpartition('=')[2]}\n" for answer in right[1::2])
    ticket = json.loads(typed(terminal, words, f"22.9, 113.93\nmoon\n{numbers}"))
    assert (ticket["town"], ticket["slogan"]) == ("大朗", "moon")
    again = json.loads(terminal.good(*words, "--location", "22.9,113.93", "--slogan", "light"))
    assert again["slogan"] == "light", "the quiz is passed"
    assert json.loads(terminal.good("claim", "gated", "--ticket", ticket["ticket"], "--json"))["serial"] == 1


def typed(terminal: Terminal, words: list[str], keys_pressed: str) -> str:
    """What a command prints when a person at a terminal answers what it asks."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, keys_pressed.encode())
        done = subprocess.run(
            [sys.executable, "-m", "cli", *words],
            cwd=ROOT,
            env={**os.environ, "FLASHCLAIM_DATA": str(terminal.data_dir)},
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_drop_is_rebuilt_from_the_ledger_and_from_receipts(terminal: Terminal, tmp_path: Path) -> None:
    """The store loses a drop, and a claim that the ledger never saw; the member brings the receipt."""
    terminal.good("drop", "create", str(EXAMPLE), "--id", "lost", "--opens-in", "0")
    terminal.good("drop", "launch", "lost")
    claims = []
    for member in ("m-1", "m-2"):
        session = terminal.good("token", "member", member).strip()
        ticket = terminal.good("ticket", "lost", "--token", session, "--item", "box-5jin").strip()
        claims.append(json.loads(terminal.good("claim", "lost", "--ticket", ticket, "--json")))
    terminal.good("audit", "lost")
    settings = load_settings(terminal.data_dir)
    with Redis.from_url(settings.redis_url) as redis:
        redis.delete(keys.drop(0, "lost"), keys.claims(0, "lost"))

    async def forget() -> None:
        async with open_stores(settings) as stores, stores.ledger.begin() as connection:
            await connection.execute(text("delete from claims where drop_id = 'lost' and serial = 2"))

    asyncio.run(forget())
    refused = terminal.run("claim", "lost", "--ticket", ticket)
    assert refused.returncode == 3
    assert "made ready" in refused.stderr
    dry = terminal.run("rebuild", "lost")
    assert dry.returncode == 0
    assert "nothing was changed: add --apply" in dry.stderr
    brought = tmp_path / "receipts.txt"
    brought.write_text(f"{claims[1]['receipt']}\nnonsense\n")
    spoiled = terminal.run("rebuild", "lost", "--receipts", str(brought), "--apply")
    assert spoiled.returncode == 2
    assert "receipts.txt line 2: this is not a receipt" in spoiled.stderr
    assert "nothing was changed" in spoiled.stderr
    brought.write_text(claims[1]["receipt"])
    report = json.loads(terminal.good("rebuild", "lost", "--receipts", str(brought), "--apply", "--json"))
    assert (report["is_applied"], report["restored"], report["claims"], report["epoch"]) == (True, 1, 2, 2)
    if report["is_paused"]:
        terminal.good("drop", "resume", "lost")
    assert json.loads(terminal.good("claim", "lost", "--ticket", ticket, "--json")) == claims[1]
    assert json.loads(terminal.good("audit", "lost", "--json"))["differences"] == 0
    assert terminal.run("rebuild", "nothing").returncode == 1


def test_a_rebuild_says_what_was_told_beyond_the_stock_and_what_to_do(terminal: Terminal, tmp_path: Path) -> None:
    """The only box was lost with the store, and went to somebody else before its receipt was there."""
    (tmp_path / "scarce.json").write_text(json.dumps(drop_json("scarce", stock=1)))
    terminal.good("drop", "create", str(tmp_path / "scarce.json"))
    terminal.good("drop", "launch", "scarce")
    tickets = [
        terminal.good("ticket", "scarce", "--token", terminal.good("token", "member", member).strip()).strip()
        for member in ("m-1", "m-2")
    ]
    first = json.loads(terminal.good("claim", "scarce", "--ticket", tickets[0], "--json"))
    terminal.good("audit", "scarce")
    settings = load_settings(terminal.data_dir)
    with Redis.from_url(settings.redis_url) as redis:
        redis.delete(keys.drop(0, "scarce"), keys.claims(0, "scarce"))

    async def forget() -> None:
        async with open_stores(settings) as stores, stores.ledger.begin() as connection:
            await connection.execute(text("delete from claims where drop_id = 'scarce'"))

    asyncio.run(forget())
    assert terminal.run("claim", "scarce", "--ticket", tickets[1]).returncode == 3
    assert json.loads(terminal.good("rebuild", "scarce", "--apply", "--json"))["is_paused"]
    terminal.good("drop", "resume", "scarce")
    terminal.good("claim", "scarce", "--ticket", tickets[1])
    brought = tmp_path / "receipts.txt"
    brought.write_text(first["receipt"])
    advice = "flashclaim drop restock scarce box 1\n"
    dry = terminal.run("rebuild", "scarce", "--receipts", str(brought))
    assert (dry.returncode, "over_stock\t{'box': 1}" in dry.stdout, advice in dry.stderr) == (1, True, True)
    done = terminal.run("rebuild", "scarce", "--receipts", str(brought), "--apply", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, advice in done.stderr) == (1, True)
    assert (report["is_applied"], report["is_paused"], report["claims"]) == (True, True, 2)
    assert (report["over_stock"], report["over_limit"]) == ({"box": 1}, 0)
    assert json.loads(terminal.good("claim", "scarce", "--ticket", tickets[0], "--json")) == first
    terminal.good(*advice.split()[1:])
    terminal.good("drop", "resume", "scarce")
    assert json.loads(terminal.good("rebuild", "scarce", "--json"))["over_stock"] == {}


def test_an_instant_win_is_committed_played_and_revealed(terminal: Terminal, tmp_path: Path) -> None:
    """The worker and the API take the key of the data directory; the file is checked as everybody can check it."""
    example = str(ROOT / "examples" / "instant.yaml")
    terminal.good("drop", "create", example, "--id", "wheel", "--opens-in", "0", "--speed", "100")
    terminal.good("drop", "launch", "wheel")
    committed = json.loads(terminal.good("instant", "commitment", "wheel"))
    out = tmp_path / "wheel.json"
    early = terminal.run("instant", "reveal", "wheel", "--out", str(out))
    assert (early.returncode, "once it is closed" in early.stderr, out.exists()) == (1, True, False)
    session = terminal.good("token", "member", "m-1").strip()
    refused = terminal.run("ticket", "wheel", "--token", session, "--item", "goose")
    assert (refused.returncode, "not chosen" in refused.stderr) == (2, True)
    ticket = terminal.good("ticket", "wheel", "--token", session).strip()
    first = json.loads(terminal.good("claim", "wheel", "--ticket", ticket, "--json"))
    terminal.good("drop", "close", "wheel")
    assert json.loads(terminal.good("claim", "wheel", "--ticket", ticket, "--json")) == first
    terminal.good("audit", "wheel")
    told = terminal.run("instant", "reveal", "wheel", "--out", str(out))
    assert (told.returncode, told.stderr.splitlines()[-1]) == (0, "VALID")
    revealed = json.loads(out.read_text())
    ((_, item),) = revealed["revealed"]["plays"][0]
    assert first["item"] == ["no-prize", "goose", "mooncake"][item]
    assert (revealed["terms"], revealed["commitment"]) == (committed["terms"], committed["commitment"])
    verifier = [sys.executable, "-I", str(ROOT / "engine" / "draws" / "verify.py"), str(out)]
    assert subprocess.run(verifier, capture_output=True, check=False).returncode == 0
    assert terminal.run("instant", "reveal", "wheel", "--out", str(tmp_path)).returncode == 2
    assert terminal.run("instant", "commitment", "nothing").returncode == 1
    assert json.loads(terminal.good("audit", "wheel", "--json"))["differences"] == 0


def test_a_drop_is_steered(terminal: Terminal) -> None:
    terminal.good("drop", "create", str(EXAMPLE), "--id", "steered", "--opens-in", "0")
    assert json.loads(terminal.good("drop", "show", "steered", "--json"))["status"] == "draft"
    for act, status in (("launch", "launched"), ("pause", "paused"), ("resume", "launched"), ("close", "closed")):
        assert json.loads(terminal.good("drop", act, "steered", "--json"))["status"] == status
        if act == "resume":
            terminal.good("drop", "restock", "steered", "box-10jin", "7")
    assert "steered\tclosed" in terminal.good("drop", "list")
    assert terminal.run("drop", "resume", "steered").returncode == 1


def test_a_rush_is_counted_and_audited(terminal: Terminal, tmp_path: Path) -> None:
    terminal.good("drop", "create", str(EXAMPLE), "--id", "rushed", "--opens-in", "3", "--speed", "1000")
    terminal.good("drop", "launch", "rushed")
    done = terminal.run("rush", "rushed", "--members", "150", "--users", "75", "--out", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout)
    assert counted["people"] == 150
    assert counted["accepted"] == counted["accepted_claims"] > 100
    assert counted["broken"] == []
    assert "people" in done.stderr
    assert "<html" in (tmp_path / "report.html").read_text().lower()
    log = tmp_path / "claims.jsonl"
    report = json.loads(terminal.good("audit", "rushed", "--client-log", str(log), "--json"))
    assert report["accepted"] == report["in_ledger"] == report["told"] == counted["accepted"]
    log.write_text(log.read_text().replace('"quantity": 1', '"quantity": 9', 1))
    assert terminal.run("audit", "rushed", "--client-log", str(log)).returncode == 1


def test_tokens_are_made_for_ids_in_a_file(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "members.txt"
    file.write_text("\ufeffm-1\r\n\n m-2 \nm-3\n", encoding="utf-8")
    assert len(terminal.good("token", "member", "--from", str(file)).splitlines()) == 3
    assert len(terminal.good("token", "member", "--from", "-", stdin="a\nb\n").splitlines()) == 2
    file.write_text("has blanks inside\n")
    refused = terminal.run("token", "member", "--from", str(file))
    assert refused.returncode == 2
    assert "is not a member id" in refused.stderr
    assert terminal.run("token", "member", "--from", str(tmp_path / "nothing")).returncode == 2


def test_wrong_input_is_exit_code_2_and_changes_nothing(terminal: Terminal, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(EXAMPLE.read_text().replace("limit_per_member", "limt_per_member"))
    refused = terminal.run("drop", "create", str(bad))
    assert refused.returncode == 2
    assert f"{bad}: limt_per_member: unknown name: did you mean 'limit_per_member'?" in refused.stderr
    assert terminal.run("drop", "create", str(tmp_path / "nothing.yaml")).returncode == 2
    assert terminal.run("drop", "show", "lychee-2025").returncode == 1
    assert terminal.run("claim", "x", "--ticket", "nonsense").returncode in (1, 2)
    assert terminal.run("nonsense").returncode == 2
    assert terminal.run("audit", "nothing").returncode == 1


def test_what_is_away_is_exit_code_3(terminal: Terminal) -> None:
    assert terminal.run("drop", "list", "--url", "http://127.0.0.1:1", "--token", "x").returncode == 3


def test_the_doctor_finds_nothing_wrong_and_says_so_when_it_does(terminal: Terminal) -> None:
    found = json.loads(terminal.good("doctor", "--json"))
    assert {finding["level"] for finding in found} <= {"ok", "warning"}
    sick = terminal.run("doctor", FLASHCLAIM_POSTGRES_URL="postgresql://127.0.0.1:1/x")
    assert sick.returncode == 1
    assert "the ledger does not answer" in sick.stdout


def test_every_command_has_help_with_an_example(terminal: Terminal) -> None:
    commands = ("dev", "serve", "worker", "migrate", "ticket", "claim", "rush", "audit", "export", "doctor")
    for command in (*commands, "backup", "restore"):
        assert "Example:" in terminal.good(command, "--help"), command


def test_a_second_instance_in_the_same_directory_is_refused(terminal: Terminal) -> None:
    refused = terminal.run("dev", "--port", str(free_port()))
    assert refused.returncode == 2
    assert "runs in" in refused.stderr


def test_a_killed_instance_leaves_nothing_that_the_next_one_trips_over(terminal: Terminal) -> None:
    """Also: Ctrl-C stops every part. Last in the file: it ends the instance."""
    terminal.good("drop", "create", str(EXAMPLE), "--id", "kept")
    left = terminal.pids()
    os.kill(terminal.process.pid, signal.SIGKILL)
    terminal.process.wait()
    terminal.close()
    terminal.process = terminal.start()
    now = terminal.pids()
    assert set(left.values()).isdisjoint(now.values())
    assert not is_running(left["api"], "cli")
    assert not is_running(left["worker"], "cli")
    assert "kept" in terminal.good("drop", "list")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(40) == 0
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}/cmdline").exists() for pid in now.values()):
        time.sleep(0.05)  # the system takes a moment to forget a process
    assert not any(
        is_running(pid, name) for pid, name in zip(now.values(), ("valkey", "postgres", "cli", "cli"), strict=True)
    )
    assert not (terminal.data_dir / "dev.json").exists()
