"""The promise: whatever is done on an instance that logs every answer, no secret is in any log or message of it."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from engine.runtime.servers import free_port, stop_process
from tests.cli.test_commands import EXAMPLE, Terminal
from tests.factories.drops import drop_json


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("FLASHCLAIM_ACCESS_LOG", "true")
    with tempfile.TemporaryDirectory(prefix="fc-secrets-") as name:
        Path(name).chmod(0o755)
        running = Terminal(Path(name), free_port())
        yield running
        stop_process(running.process, grace_s=40)
        running.close()


def test_no_secret_is_in_any_log_or_message(terminal: Terminal) -> None:
    keys = (terminal.data_dir / "keys.json").read_text()
    dev = json.loads((terminal.data_dir / "dev.json").read_text())
    secrets = {"operator token": dev["operator_token"]}
    secrets |= {f"key {number}": key for number, key in enumerate(re.findall("[0-9a-f]{64}", keys))}
    terminal.good("drop", "create", str(EXAMPLE), "--id", "quiet", "--opens-in", "0")
    terminal.good("drop", "launch", "quiet")
    secrets["session"] = terminal.good("token", "member", "m-1").strip()
    secrets["ticket"] = terminal.good("ticket", "quiet", "--token", secrets["session"], "--item", "box-5jin").strip()
    claim = json.loads(terminal.good("claim", "quiet", "--ticket", secrets["ticket"], "--json"))
    secrets["receipt"] = claim["receipt"]
    said = ""
    misuse(f"http://127.0.0.1:{terminal.port}", secrets)
    secrets["location"] = locate(terminal, secrets["session"])
    for words in (
        ("claim", "quiet", "--ticket", secrets["ticket"] + "A"),
        ("claim", secrets["ticket"], "--ticket", secrets["ticket"]),
        ("drop", "show", secrets["receipt"]),
        ("ticket", "quiet", "--token", secrets["ticket"]),
        ("drop", "list", "--url", "http://boss:hunter22@127.0.0.1:1"),
        ("doctor",),
        ("keys", "show"),
        ("audit", "quiet"),
    ):
        done = terminal.run(*words)
        said += done.stdout + done.stderr
    stop_process(terminal.process, grace_s=40)
    assert terminal.process.stdout is not None
    said += terminal.process.stdout.read().decode()
    logs = [path for path in terminal.data_dir.rglob("*log") if path.is_file()]
    assert {"api.log", "worker.log"} <= {path.name for path in logs}
    for path in logs:
        said += path.read_text(errors="replace")
    assert said.count('"event": "answered"') > 10, "the access log is on"
    shown = {name for name, secret in secrets.items() if any(part in said for part in parts(secret))}
    assert shown == set()
    assert "hunter22" not in said


def parts(secret: str) -> list[str]:
    """A token's payload and its signature tell too, and so do the digits of a place."""
    return [part for part in re.split("[.,]", secret) if len(part) > 5]


def locate(terminal: Terminal, session: str) -> str:
    """A place that members sent, the right way round, swapped, and in a body that is refused."""
    lat, lon = 22.9012345678, 113.9387654321
    drop = drop_json("where", gates={"location": {"towns": ["大朗"]}})
    url, operator = f"http://127.0.0.1:{terminal.port}/v1/drops", terminal.good("token", "operator").strip()
    for path, body in (("", drop), ("/where/launch", None)):
        done = httpx.post(url + path, json=body, headers={"Authorization": f"Bearer {operator}"})
        assert done.is_success, done.text
    for place in ({"lat": lat, "lon": lon}, {"lat": lon, "lon": lat}, {"lat": lat, "lon": str(lon)}, f"{lat},{lon}"):
        headers = {"Authorization": f"Bearer {session}"}
        answer = httpx.post(f"{url}/where/ticket", json={"location": place}, headers=headers)
        assert answer.status_code in (200, 422), answer.text
    return f"{lat},{lon}"


def misuse(url: str, secrets: dict[str, str]) -> None:
    """What clumsy clients send: secrets in the wrong header, path, query, body and request id."""
    for name, secret in secrets.items():
        for method, path, more in (
            ("GET", f"/v1/drops/{secret}", {}),
            ("GET", f"/v1/drops?after={secret}", {"Authorization": f"Bearer {secret}"}),
            ("POST", "/v1/drops/quiet/claims", {"Authorization": f"Bearer {secret}"}),
            ("POST", "/v1/drops/quiet/claims", {"Authorization": f"Ticket {secret[:-1]}"}),
            ("POST", f"/v1/drops/quiet/claims/{secret}", {}),
            ("GET", "/healthz2", {"X-Request-ID": secret[:64]}),
        ):
            headers = {"Content-Type": "application/json", **more}
            body = json.dumps({"item": secret, "quantity": 1})
            answer = httpx.request(method, url + path, headers=headers, content=body)
            assert answer.status_code < 500, (name, method, path)
