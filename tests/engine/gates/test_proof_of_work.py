"""The promise: a proof is dear to make and cheap to check, and good for its member, its drop and its time alone."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bounds import CHALLENGE_S
from engine.claims.keyring import Keyring
from engine.drops.model import Drop, Status, to_ms
from engine.gates import challenge, check
from engine.gates.model import Case, Given, Passed
from engine.gates.proof_of_work import ProofInvalid, ProofRequired, zero_bits
from engine.members.model import Session
from engine.towns import load
from engine.towns.places import Places
from tests.factories.drops import drop_spec
from tests.factories.proofs import solved

NOW_MS = 1_750_000_000_000
KEYS = Keyring(1, {1: bytes(32), 2: bytes(31) + b"\1"})
MEMBER = Session("m-1", "m-1")
DROP = Drop(drop_spec("trial", gates={"proof_of_work": {"bits": 8}}), Status.LAUNCHED, 2, 1)
CASE = Case(KEYS, DROP, MEMBER, NOW_MS, Places(load()))


def made(case: Case = CASE) -> str:
    (asked,) = challenge(case)
    return solved(asked)


def show(proof: str | None, case: Case = CASE) -> Passed:
    return check(case, Given(proof=proof))


class TestGood:
    def test_it_passes_until_it_expires(self) -> None:
        proof = made()
        assert zero_bits(proof) >= 8
        assert show(proof) == Passed(gates=("proof-of-work",))
        show(proof, CASE._replace(now_ms=NOW_MS + CHALLENGE_S * 1000 - 1))
        with pytest.raises(ProofInvalid, match="expired"):
            show(proof, CASE._replace(now_ms=NOW_MS + CHALLENGE_S * 1000))

    def test_the_same_proof_passes_again_for_the_same_member_and_drop(self) -> None:
        """What is stated in the module: a proof is the price of a member's place, not of each ticket."""
        proof = made()
        for _ in range(2):
            show(proof)

    def test_keys_rotate_under_it(self) -> None:
        proof = made(CASE._replace(keyring=Keyring(2, KEYS.keys)))
        show(proof)
        with pytest.raises(ProofInvalid, match="no longer in use"):
            show(proof, CASE._replace(keyring=Keyring(1, {1: bytes(32)})))

    def test_a_drop_without_a_gate_asks_for_nothing(self) -> None:
        free = CASE._replace(drop=replace(DROP, spec=drop_spec("trial")))
        assert challenge(free) == []
        assert show(None, free) == show("whatever", free) == Passed()


class TestRefused:
    def test_without_one_the_facts_are_a_challenge_that_can_be_solved(self) -> None:
        with pytest.raises(ProofRequired) as refused:
            show(None)
        assert refused.value.facts["gate"] == "proof-of-work"
        show(solved(refused.value.facts))

    @pytest.mark.parametrize("other", [Session("m-2", "m-1"), Session("m-1.", "m-1")])
    def test_another_members_is_none(self, other: Session) -> None:
        with pytest.raises(ProofInvalid, match="another member"):
            show(made(), CASE._replace(session=other))

    def test_another_drops_is_none(self) -> None:
        other = replace(DROP, spec=drop_spec("other", gates={"proof_of_work": {"bits": 8}}))
        with pytest.raises(ProofInvalid, match="another drop"):
            show(made(), CASE._replace(drop=other))

    def test_one_with_too_little_work_is_none_and_the_new_challenge_says_how_much(self) -> None:
        harder = replace(DROP, spec=drop_spec("trial", gates={"proof_of_work": {"bits": 24}}))
        with pytest.raises(ProofInvalid, match="24 zero bits") as refused:
            show(made(), CASE._replace(drop=harder))
        assert refused.value.facts["bits"] == 24

    def test_every_altered_character_of_the_challenge_is_noticed(self) -> None:
        proof = made()
        for at in range(32):
            other = proof[:at] + ("A" if proof[at] != "A" else "B") + proof[at + 1 :]
            with pytest.raises(ProofInvalid):
                show(other)

    @given(st.text(max_size=80))
    def test_no_text_passes_or_breaks_it(self, text: str) -> None:
        with pytest.raises(ProofInvalid):
            show(text)

    def test_solutions_are_bounded(self) -> None:
        head = made().partition(".")[0]
        for tail in ("", ".", ".!", "." + "a" * 33, ".a.b", ".a\n"):
            with pytest.raises(ProofInvalid, match="not a proof"):
                show(head + tail)


def test_the_expiry_is_told_as_a_time() -> None:
    (found,) = challenge(CASE)
    expires_at = found["expires_at"]
    assert to_ms(expires_at) == NOW_MS + CHALLENGE_S * 1000  # type: ignore[arg-type]
