"""The promise: what a killed parent left running is ended at the next start, and nobody else's process is."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.runtime.servers import EmbeddedValkey, end_leftover


@contextmanager
def running(*arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that runs until it is asked to end."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *arguments])
    try:
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
            time.sleep(0.001)  # the system has begun the program, and not yet written down its words
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_leftover_is_ended(tmp_path: Path) -> None:
    with running("cli", "serve", "--data", str(tmp_path)) as process:
        (tmp_path / "api.pid").write_text(str(process.pid))
        end_leftover(tmp_path / "api.pid", "cli", str(tmp_path))
        assert process.wait(10) != 0


def test_a_process_of_another_instance_that_got_the_same_id_is_let_alone(tmp_path: Path) -> None:
    """After a loss of power the process ids in the files are those of strangers."""
    with running("cli", "serve", "--data", "/somewhere/else") as process:
        (tmp_path / "api.pid").write_text(str(process.pid))
        end_leftover(tmp_path / "api.pid", "cli", str(tmp_path))
        assert process.poll() is None


def test_a_valkey_of_another_instance_is_let_alone(tmp_path: Path) -> None:
    for parent in ("ours", "theirs"):
        (tmp_path / parent).mkdir()
    theirs = EmbeddedValkey(tmp_path / "theirs")
    theirs.start()
    ours = EmbeddedValkey(tmp_path / "ours")
    try:
        (tmp_path / "ours" / "valkey" / "valkey.pid").write_text(str(theirs.pid))
        ours.start()
        assert theirs.pid is not None
    finally:
        ours.stop()
        theirs.stop()
