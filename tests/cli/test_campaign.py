"""The promise: each campaign command does what its help says, on a real instance, and fails with a sentence."""

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from engine.runtime.servers import free_port, stop_process
from tests.cli.test_commands import Terminal
from tests.factories.campaigns import campaign_json, part

EXAMPLE = Path(__file__).parents[2] / "examples" / "mid-autumn.yaml"


@pytest.fixture(scope="module")
def terminal() -> Iterator[Terminal]:
    with tempfile.TemporaryDirectory(prefix="fc-cli-") as name:
        Path(name).chmod(0o755)
        running = Terminal(Path(name), free_port())
        yield running
        stop_process(running.process, grace_s=40)
        running.close()


def test_a_campaign_goes_its_way_by_hand(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "autumn.yaml"
    opens = datetime.now(UTC) - timedelta(minutes=1)
    file.write_text(yaml.safe_dump(campaign_json(opens_at=opens)), encoding="utf-8")
    terminal.good("campaign", "create", str(file))
    terminal.good("campaign", "create", str(file))  # the same again finishes it, and there is nothing left to do
    terminal.good("campaign", "launch", "autumn")
    assert "goose\tlaunched\t2" in terminal.good("campaign", "show", "autumn")
    assert "goose\tyes\tyes\t\n" in terminal.good("campaign", "dry-run", "autumn", "--member", "m-1")
    session = terminal.good("token", "member", "m-1").strip()
    ticket = terminal.good("ticket", "goose", "--token", session).strip()
    terminal.good("claim", "goose", "--ticket", ticket)
    assert "mooncake\tyes\tno\tthe limit of this campaign is 1" in terminal.good(
        "campaign", "dry-run", "autumn", "--member", "m-1"
    )

    change = campaign_json(opens_at=opens, drops=[part(name) for name in ("goose", "mooncake", "meat")])
    file.write_text(yaml.safe_dump(change), encoding="utf-8")
    review = json.loads(terminal.good("campaign", "review", "autumn", str(file), "--json"))
    assert [told["drop_id"] for told in review["drops_told"]] == ["meat", "goose", "mooncake", "meat"]
    unread = terminal.run("campaign", "amend", "autumn", str(file), stdin="")
    assert (unread.returncode, "--review" in unread.stderr) == (2, True)
    done = terminal.good("campaign", "amend", "autumn", str(file), "--review", review["review"], "--json")
    assert [drop["status"] for drop in json.loads(done)["standing"]] == ["launched"] * 3

    for act, status in (("pause", "paused"), ("resume", "launched"), ("close", "closed")):
        assert json.loads(terminal.good("campaign", act, "autumn", "--json"))["status"] == status
    again = terminal.run("campaign", "resume", "autumn")
    assert (again.returncode, "resume needs it to be paused" in again.stderr) == (1, True)


def test_the_example_is_copied_to_another_year(terminal: Terminal) -> None:
    terminal.good("campaign", "create", str(EXAMPLE))
    copy = terminal.good("campaign", "copy", "mid-autumn", "next", "--opens-on", "2027-09-08", "--json")
    assert json.loads(copy)["drops"][1]["opens_at"] == "2027-09-09T10:00:00+08:00"
    assert "next\tdraft" in terminal.good("campaign", "list")
    wrong = terminal.run("campaign", "copy", "mid-autumn", "other", "--opens-on", "soon")
    assert (wrong.returncode, "is not a day" in wrong.stderr) == (2, True)


def test_a_wrong_file_is_told_by_line_and_makes_nothing(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("theme: [", encoding="utf-8")
    refused = terminal.run("campaign", "create", str(file))
    assert (refused.returncode, "not YAML: line" in refused.stderr) == (2, True)
    file.write_text(EXAMPLE.read_text(encoding="utf-8").replace("stock: 2000", "stock: many"), encoding="utf-8")
    refused = terminal.run("campaign", "create", str(file))
    assert (refused.returncode, f"{file}: drops.0.items.0.stock" in refused.stderr) == (2, True)
    for words in (("show", "nothing"), ("launch", "nothing"), ("dry-run", "nothing", "--member", "m-1")):
        assert "no-such-campaign" in terminal.run("campaign", *words).stderr
