"""The promise: `flashclaim bench` measures real servers, audits what it measured, and writes every figure."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "cli", "bench", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)


def test_a_short_bench_has_every_figure_of_whom_it_measured(tmp_path: Path) -> None:
    done = run(
        "--rounds", "1", "--seconds", "1", "--only", "usual", "--json", str(tmp_path / "b.json"),
        "--chart", str(tmp_path / "b.svg"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "b.json").read_text())
    assert set(found["contestants"]) == {"bare", "usual", "ours"}
    assert set(found["ratios"]) == {"cpu_usual", "rps_bare", "rps_usual", "p99_bare", "bytes_per_claim", "ledger_rate"}
    assert all(ratio > 0 for ratio in found["ratios"].values())
    assert found["full_rate"]["lag_p99_s"] >= 0
    assert (tmp_path / "b.svg").read_text().startswith("<svg")
    assert "ratio\tfound\tgoal" in done.stdout


def test_an_unknown_contestant_is_named_with_those_that_there_are() -> None:
    done = run("--only", "nobody")
    assert done.returncode == 2
    assert "'nobody'" in done.stderr
    assert "rowlock" in done.stderr
