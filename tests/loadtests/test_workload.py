"""The promise: one seed is one crowd; what is counted is what was answered."""

import json
from pathlib import Path

from loadtests.tally import Tally
from loadtests.workload import people


def test_the_same_seed_is_the_same_crowd() -> None:
    once, again, other = (list(people(seed, 500, ["a", "b"], [9, 1])) for seed in (1, 1, 2))
    assert once == again
    assert once != other
    assert len({person.member_id for person in once}) == 500
    assert sum(person.item == "a" for person in once) > 400


def test_a_tally_counts_answers_and_writes_what_was_told(tmp_path: Path) -> None:
    tally = Tally(tmp_path, "d")
    tally.claim_answered("t-1", "box", 201, {"claim_id": "d.0.1"}, 5)
    tally.claim_answered("t-1", "box", 200, {"claim_id": "d.0.1"}, 7)
    tally.claim_answered("t-2", "box", 409, {"code": "sold-out"}, 3)
    found = tally.close()
    assert (found["accepted"], found["repeated"], found["refused"]) == (1, 1, {"sold-out": 1})
    assert found["broken"] == []
    *told, refused = [json.loads(line) for line in (tmp_path / "claims.jsonl").read_text().splitlines()]
    assert [line["status"] for line in told] == [201, 200]
    assert (refused["code"], refused["drop_id"], refused["item"]) == ("sold-out", "d", "box")
    assert 3 <= refused["answered_ms"] - refused["sent_ms"] <= 5


def test_a_ticket_that_is_told_two_claims_is_a_broken_promise(tmp_path: Path) -> None:
    tally = Tally(tmp_path, "d")
    tally.claim_answered("t-1", "box", 201, {"claim_id": "d.0.1"}, 5)
    tally.claim_answered("t-1", "box", 200, {"claim_id": "d.0.2"}, 5)
    assert len(tally.close()["broken"]) == 1
