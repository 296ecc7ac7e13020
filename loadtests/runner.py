"""Runs locust headless in a process of its own: locust changes the whole process it runs in (gevent)."""

import importlib.util
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from engine.errors import FlashclaimError, Misconfigured
from engine.runtime.servers import stop_process
from loadtests.config import RushConfig


class RushFailed(FlashclaimError):
    """Locust did not run to its end."""

    code = "rush-failed"


def run_rush(config: RushConfig, url: str) -> dict[str, Any]:
    """Run the rush against a URL; progress goes to standard error, files to `config.out_dir`. The summary.

    Raises `Misconfigured` when locust is not installed, `RushFailed` when it ended without a summary.
    """
    if importlib.util.find_spec("locust") is None:
        raise Misconfigured("locust is not installed: `pip install 'flashclaim[load]'`")
    config.out_dir.mkdir(parents=True, exist_ok=True)
    summary = config.out_dir / "summary.json"
    summary.unlink(missing_ok=True)
    log = config.out_dir / "locust.log"
    command = [
        sys.executable, "-W", "ignore", "-m", "locust", "-f", str(Path(__file__).parent / "locustfile.py"),
        "--headless", "--only-summary", "--host", url, "--html", str(config.out_dir / "report.html"),
        "--logfile", str(log), "--stop-timeout", "60",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "RUSH_DROP": config.drop_id,
        "RUSH_MEMBERS": str(config.members),
        "RUSH_USERS": str(config.users),
        "RUSH_SEED": str(config.seed),
        "RUSH_TIME_MAX_S": str(config.time_max_s),
        "RUSH_OUT": str(config.out_dir),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    if config.data_dir is not None:
        environment["FLASHCLAIM_DATA"] = str(config.data_dir)
    _raise_open_file_limit()
    progress = os.dup(sys.stderr.fileno())  # locust's own words go to a file, our progress lines to the terminal
    with (config.out_dir / "locust.out").open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**environment, "RUSH_PROGRESS_FD": str(progress)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(progress,),
        )
        os.close(progress)
        try:
            process.wait()
        finally:
            stop_process(process, grace_s=2)  # it has ended, or we were interrupted: nobody wants its last words
    if not summary.exists():
        raise RushFailed(f"locust ended without a summary: see {log}")
    found: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
    return found


def _raise_open_file_limit() -> None:
    """Each user holds a connection: the soft limit of 1,024 is too low for a rush."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
