"""The promise: docs/draws.md is true to the digit; its examples are files that verify, and print what it shows."""

import json
import re
from pathlib import Path

import pytest

from engine.draws import verify
from engine.draws.publication import proof
from tests.engine.draws import second

PAGE = (Path(__file__).parents[3] / "docs" / "draws.md").read_text(encoding="utf-8")
DRAW, PROOF, INSTANT = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def printed(capsys: pytest.CaptureFixture[str], *arguments: Path | str) -> tuple[int, str]:
    code = verify.main([str(argument) for argument in arguments])
    return code, "".join(f"    {line}\n" for line in capsys.readouterr().out.splitlines())


def file(folder: Path, text: str) -> Path:
    path = folder / f"{len(list(folder.iterdir()))}.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_draw_verifies_and_prints_this(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = printed(capsys, file(tmp_path, DRAW))
    assert (code, output in PAGE) == (0, True), output


def test_a_weight_that_was_changed_prints_this(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = DRAW.replace('["goose-small.0.2", 1, 2, 0, 3]', '["goose-small.0.2", 1, 2, 0, 4]')
    code, output = printed(capsys, file(tmp_path, changed))
    differs = "".join(line for line in output.splitlines(keepends=True) if "DIFFERS" in line)
    assert (code, differs in PAGE, differs.count("DIFFERS")) == (1, True, 3), output


def test_the_proof_is_the_third_entrants_and_prints_this(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(PROOF) == proof(json.loads(DRAW), "goose-small.0.3")
    code, output = printed(capsys, file(tmp_path, DRAW), "--proof", file(tmp_path, PROOF))
    assert (code, output[output.index("    proof for") :] in PAGE) == (0, True), output


def test_the_instant_win_verifies_and_prints_this(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = printed(capsys, file(tmp_path, INSTANT))
    assert (code, output in PAGE) == (0, True), output
    document = json.loads(INSTANT)
    terms, secret = document["terms"], bytes.fromhex(document["revealed"]["secret"])
    units = [
        f"{terms['prizes'][item - 1]['id']} at {at_ms}"
        for at_ms, item in second.sequence(secret, terms["curve"], terms["prizes"])
    ]
    assert ", ".join(units) in " ".join(PAGE.split())


def test_the_lots_in_the_table_are_those_of_the_second_implementation() -> None:
    document = json.loads(DRAW)
    seed = bytes.fromhex(document["revealed"]["seed"])
    winners = dict(document["revealed"]["winners"])
    rows = document["closed"]["entries"]
    lots = {row[0]: [f"{second.number(seed, bytes([k]), row[0].encode()):064x}" for k in range(row[4])] for row in rows}
    order = sorted(lots, key=lambda name: min(lots[name]))
    for name, *_, weight in rows:
        shown = [f"**{lot[:8]}**" if lot == min(lots[name]) else lot[:8] for lot in lots[name]]
        waiting = document["revealed"]["waiting"]
        gets = winners.get(name) or (f"waiting, {waiting.index(name) + 1}" if name in waiting else "nothing")
        assert f"| `{name}` | {weight} | {', '.join(shown)} | {order.index(name) + 1} | {gets} |" in PAGE
