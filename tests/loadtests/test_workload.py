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
    tally = Tally(tmp_path)
    tally.claim_answered("t-1", 201, {"claim_id": "d.0.1"}, 5)
    tally.claim_answered("t-1", 200, {"claim_id": "d.0.1"}, 7)
    tally.claim_answered("t-2", 409, {"code": "sold-out"}, 3)
    found = tally.close()
    assert (found["accepted"], found["repeated"], found["refused"]) == (1, 1, {"sold-out": 1})
    assert found["broken"] == []
    assert [json.loads(line)["status"] for line in (tmp_path / "claims.jsonl").read_text().splitlines()] == [201, 200]


def test_a_ticket_that_is_told_two_claims_is_a_broken_promise(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    tally.claim_answered("t-1", 201, {"claim_id": "d.0.1"}, 5)
    tally.claim_answered("t-1", 200, {"claim_id": "d.0.2"}, 5)
    assert len(tally.close()["broken"]) == 1
