"""The promise: `serve` does not start with a deny list that has a fault, and says which line it is."""

import os
import subprocess
import sys
from pathlib import Path

from engine.runtime.keyfile import ensure_keys


def test_a_faulty_deny_list_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    ensure_keys(tmp_path)
    (tmp_path / "dev.json").write_text('{"redis_url": "redis://127.0.0.1:1/0", "postgres_url": "postgresql://x"}')
    (tmp_path / "deny").write_text("member m-1\n203.0.113.9\n")
    done = subprocess.run(
        [sys.executable, "-m", "cli", "serve", "--port", "1", "--workers", "2", "--data", str(tmp_path)],
        env={**os.environ, "FLASHCLAIM_DENY_FILE": str(tmp_path / "deny")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("flashclaim: deny_file ")
    assert "line 2: '203.0.113.9' is neither" in done.stderr
    assert done.stderr.count("\n") == 1
