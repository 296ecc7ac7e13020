"""The promise: a draw is led and checked by command; who checks needs a file alone, and a wrong one is named."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from engine.draws.verify import check, check_proof
from engine.errors import FlashclaimError
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.engine.draws.test_page import DRAW, PROOF
from tests.factories.drawn import VALUE, Drawn, names, recording


@pytest.fixture
async def drawn(stores: Stores, settings: Settings) -> AsyncIterator[Drawn]:
    async with recording(stores):
        yield Drawn(stores, settings)


class Terminal:
    """Types commands in another thread, against the stores of the tests."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("redis_url", "postgres_url"):
            monkeypatch.setenv(f"FLASHCLAIM_{name.upper()}", getattr(settings, name))
        monkeypatch.setenv("FLASHCLAIM_TICKET_KEYS", json.dumps({1: "11" * 32}))
        monkeypatch.setenv("FLASHCLAIM_RECEIPT_KEYS", json.dumps({1: "22" * 32}))
        monkeypatch.setenv("FLASHCLAIM_SESSION_SECRET", "a secret for the tests, long enough")

    async def run(self, *words: str) -> str:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["draw", *words])
        if done.exception is not None:
            raise done.exception
        return done.stdout


async def test_a_draw_is_led_by_command(
    drawn: Drawn, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    terminal = Terminal(settings, monkeypatch)
    await drawn.commit()
    claims = await drawn.enter(*names(5))
    assert json.loads(await terminal.run("show", "goose", "--json"))["state"] == "committed"
    with pytest.raises(FlashclaimError, match="takes entries until"):
        await terminal.run("close", "goose")
    await drawn.close()
    assert json.loads(await terminal.run("close", "goose", "--json"))["entrants"] == 5
    published, value = tmp_path / "draw.json", tmp_path / "round.hex"
    value.write_text(f"{VALUE}\n")
    with pytest.raises(FlashclaimError) as refused:
        await terminal.run("reveal", "goose", "--round", "7", "--value-file", str(value))
    assert refused.value.code == "draw-invalid"
    await drawn.reveal()
    assert "offered\t0" in await terminal.run("lapse", "goose")
    await terminal.run("publish", "goose", "--out", str(published))
    document = json.loads(published.read_text())
    assert check(document).differences == []
    mine = tmp_path / "mine.json"
    mine.write_text(await terminal.run("proof", "goose", str(claims[2].claim_id)))
    assert check_proof(document, json.loads(mine.read_text())).differences == []
    assert (await terminal.run("verify", str(published), "--proof", str(mine))).count("VALID") == 2
    with pytest.raises(FlashclaimError) as refused:
        await terminal.run("void", "goose", "--reason", "no")
    assert refused.value.code == "wrong-stage"
    with pytest.raises(FlashclaimError) as refused:
        await terminal.run("commit", "nothing")
    assert refused.value.code == "no-such-drop"


class TestVerify:
    """Without stores and settings."""

    def test_a_file_that_holds_is_valid(self, tmp_path: Path) -> None:
        (tmp_path / "draw.json").write_text(DRAW)
        (tmp_path / "mine.json").write_text(PROOF)
        words = ["draw", "verify", str(tmp_path / "draw.json"), "--proof", str(tmp_path / "mine.json")]
        done = CliRunner().invoke(app, words)
        assert (done.exit_code, done.stdout.count("VALID")) == (0, 2)

    def test_one_that_differs_is_exit_code_1(self, tmp_path: Path) -> None:
        (tmp_path / "draw.json").write_text(DRAW.replace('"stock": 2', '"stock": 3'))
        done = CliRunner().invoke(app, ["draw", "verify", str(tmp_path / "draw.json")])
        assert (done.exit_code, "DIFFERS  commitment" in done.stdout) == (1, True)

    @pytest.mark.parametrize("text", ["", "[]", "{", "\0", '{"terms": 1}'])
    def test_one_that_is_none_is_exit_code_2(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "draw.json").write_text(text)
        assert CliRunner().invoke(app, ["draw", "verify", str(tmp_path / "draw.json")]).exit_code == 2
