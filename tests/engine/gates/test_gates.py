"""The promise: a drop's gates are asked in one stated order; a ticket's numbers are what they established; a pass is
for its member, its drop, its gate and its quiz alone, and for its time.
"""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bounds import PASS_S
from engine.claims.keyring import Keyring
from engine.claims.ticket import from_text, to_text
from engine.drops.model import Drop, Status
from engine.errors import FlashclaimError
from engine.gates import GATES, challenge, check
from engine.gates.location import LocationInvalid, LocationRequired, Outside, WrongTown
from engine.gates.members_list import ListPassRequired
from engine.gates.model import Case, Given, Location, Passed, PassInvalid, issue_pass
from engine.gates.quiz import QuizRequired
from engine.gates.slogan import SloganRequired, UnknownSlogan
from engine.members.model import Session
from engine.towns import load
from engine.towns.places import Places
from tests.factories.drops import drop_spec
from tests.factories.gates import DALANG, DONGKENG, SLOGANS, quiz_json
from tests.factories.proofs import solved

NOW_MS = 1_750_000_000_000
KEYS = Keyring(1, {1: bytes(32), 2: bytes(31) + b"\1"})
TOWNS = load()
ALL: dict[str, Any] = {
    "proof_of_work": {"bits": 4},
    "quiz": quiz_json(),
    "slogan": SLOGANS,
    "location": {"towns": ["大朗"]},
    "list": "veterans",
}
NAMES = ["list", "location", "slogan", "quiz", "proof-of-work"]


def case_of(drop_id: str = "trial", member: str = "m-1", **gates: Any) -> Case:
    drop = Drop(drop_spec(drop_id, gates=gates), Status.LAUNCHED, 2, 1)
    return Case(KEYS, drop, Session(member, member), NOW_MS, Places(TOWNS))


def pass_of(case: Case, gate: str) -> str:
    quiz = case.drop.spec.gates.quiz
    kept = {"quiz": quiz.version if quiz else "", "list": str(case.drop.spec.gates.list_)}[gate]
    return str(issue_pass(case, gate, kept)["pass"])


def whole(case: Case) -> dict[str, Any]:
    """All that a case's drop asks for."""
    return {
        "list": pass_of(case, "list"),
        "location": Location(**DALANG),
        "slogan": "moon",
        "quiz": pass_of(case, "quiz"),
        "proof": solved(challenge(case)[-1]),
    }


def brought(gate: str, text: str) -> Given:
    return Given(quiz=text) if gate == "quiz" else Given(list=text)


class TestOrder:
    def test_it_is_the_registrys_whatever_the_definition_says(self) -> None:
        assert [gate.name for gate in GATES] == NAMES
        for gates in (ALL, dict(reversed(ALL.items()))):
            assert [asked["gate"] for asked in challenge(case_of(**gates))] == NAMES

    def test_the_first_one_that_is_not_passed_refuses(self) -> None:
        case = case_of(**ALL)
        given_ = whole(case)
        refusals = [ListPassRequired, LocationRequired, SloganRequired, QuizRequired]
        for place, (name, refusal) in enumerate(zip(["list", "location", "slogan", "quiz"], refusals, strict=True)):
            missing = {other: value for other, value in given_.items() if other not in [name, "proof"]}
            with pytest.raises(refusal) as refused:
                check(case, Given(**missing))
            assert dict(refused.value.facts) == dict(challenge(case)[place])

    def test_what_is_passed_is_told(self) -> None:
        case = case_of(**ALL)
        assert check(case, Given(**whole(case))) == Passed(town=19, slogan=2, gates=tuple(NAMES))
        assert check(case_of(slogan=SLOGANS), Given(slogan="light")) == Passed(slogan=1, gates=("slogan",))

    def test_the_same_again_passes_again(self) -> None:
        case = case_of(**ALL)
        given_ = Given(**whole(case))
        assert check(case, given_) == check(case, given_)

    def test_what_no_gate_asks_for_is_not_looked_at(self) -> None:
        brought = Given(list="x", location=Location(math.nan, 999), slogan="x", quiz="x", proof="x")
        assert check(case_of(), brought) == Passed()


class TestPasses:
    def refused(self, case: Case, text: str, match: str, gate: str = "quiz") -> None:
        with pytest.raises(PassInvalid, match=match) as refused:
            check(case, brought(gate, text))
        assert refused.value.facts == {"gate": gate, "route": f"POST /v1/drops/{case.drop.id}/{gate}"}
        assert text == "" or text not in refused.value.detail

    @pytest.mark.parametrize("gates", [{"quiz": quiz_json()}, {"list": "veterans"}], ids=["quiz", "list"])
    def test_of_another_member_or_drop_is_none(self, gates: dict[str, Any]) -> None:
        (gate,) = gates
        case = case_of(**gates)
        check(case, brought(gate, pass_of(case, gate)))
        for other in (case_of(member="m-2", **gates), case_of("other", **gates), case_of(member="m-1.", **gates)):
            self.refused(other, pass_of(case, gate), "another member", gate)
            self.refused(case, pass_of(other, gate), "another member", gate)

    def test_of_another_account_of_the_same_person_is_none(self) -> None:
        case = case_of(quiz=quiz_json())
        other = case._replace(session=Session("m-2", "m-1"))
        self.refused(other, pass_of(case, "quiz"), "another member")

    def test_of_another_gate_is_none(self) -> None:
        case = case_of(quiz=quiz_json(), list="veterans")
        good = pass_of(case, "list")
        with pytest.raises(PassInvalid, match="another gate"):
            check(case, Given(list=good, quiz=good))

    def test_of_a_quiz_or_a_list_that_was_changed_since_is_none(self) -> None:
        case = case_of(quiz=quiz_json())
        text = pass_of(case, "quiz")
        self.refused(case_of(quiz=quiz_json(pass_mark=3)), text, "a quiz that was changed")
        check(case_of(quiz=quiz_json(attempts=9)), Given(quiz=text))
        self.refused(case_of(list="others"), pass_of(case_of(list="veterans"), "list"), "another gate", "list")

    def test_expires(self) -> None:
        case = case_of(quiz=quiz_json())
        text = pass_of(case, "quiz")
        check(case._replace(now_ms=NOW_MS + PASS_S * 1000 - 1), Given(quiz=text))
        self.refused(case._replace(now_ms=NOW_MS + PASS_S * 1000), text, "expired")

    def test_outlives_a_rotation_and_not_the_retirement_of_its_key(self) -> None:
        case = case_of(quiz=quiz_json())
        text = pass_of(case._replace(keyring=Keyring(2, KEYS.keys)), "quiz")
        check(case, Given(quiz=text))
        self.refused(case._replace(keyring=Keyring(1, {1: bytes(32)})), text, "no longer in use")

    def test_every_single_bit_counts(self) -> None:
        case = case_of(quiz=quiz_json())
        data = from_text(pass_of(case, "quiz"))
        assert data is not None
        for bit in range(len(data) * 8):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(PassInvalid):
                check(case, Given(quiz=to_text(bytes(changed))))

    def test_a_challenge_is_no_pass_and_a_pass_no_challenge(self) -> None:
        """Both are sealed by the same keys, in the same form: the purpose of the MAC tells them apart."""
        case = case_of(quiz=quiz_json(), proof_of_work={"bits": 1})
        self.refused(case, str(challenge(case)[1]["challenge"]), "forged")
        proof = solved({"challenge": pass_of(case, "quiz"), "bits": 1})
        with pytest.raises(FlashclaimError, match="forged"):
            check(case, Given(quiz=pass_of(case, "quiz"), proof=proof))

    @given(st.text(max_size=60))
    def test_no_text_passes_or_breaks_it(self, text: str) -> None:
        with pytest.raises(PassInvalid):
            check(case_of(quiz=quiz_json()), Given(quiz=text))


class TestSlogan:
    def test_numbers_are_places_from_one(self) -> None:
        case = case_of(slogan=SLOGANS)
        assert [check(case, Given(slogan=name)).slogan for name in ("light", "moon")] == [1, 2]

    @pytest.mark.parametrize("name", ["", "Light", "light ", "点亮", "x" * 500, "\x00"])
    def test_an_unknown_one_is_refused_and_the_known_are_named(self, name: str) -> None:
        with pytest.raises(UnknownSlogan, match="light, moon") as refused:
            check(case_of(slogan=SLOGANS), Given(slogan=name))
        assert len(refused.value.detail) < 200


class TestLocation:
    def at(self, lat: float, lon: float, towns: Any = "any") -> Passed:
        return check(case_of(location={"towns": towns}), Given(location=Location(lat, lon)))

    def test_gives_the_claim_its_town(self) -> None:
        for town in TOWNS:
            assert self.at(town.lat, town.lon).town == town.number
        assert self.at(**DALANG, towns=["东坑", "大朗"]).town == 19

    def test_another_town_is_refused_by_name(self) -> None:
        with pytest.raises(WrongTown, match="大朗; you are in 东坑") as refused:
            self.at(**DONGKENG, towns=["大朗"])
        assert refused.value.facts == {"town": "东坑"}

    @pytest.mark.parametrize(("lat", "lon"), [(22.54, 114.06), (39.9, 116.4), (0, 0), (-90, 180), (22.9, -113.93)])
    def test_outside_the_city_is_refused(self, lat: float, lon: float) -> None:
        with pytest.raises(Outside):
            self.at(lat, lon)

    @pytest.mark.parametrize(
        ("lat", "lon", "words"),
        [
            (math.nan, 113.9, "finite"),
            (22.9, math.inf, "finite"),
            (-math.inf, math.nan, "finite"),
            (113.93, 22.9, "were lat and lon swapped"),
            (90.01, 22.9, "were lat and lon swapped"),
            (181, 22.9, "not from -90 to 90 degrees$"),
            (113.93, 113.93, "not from -90 to 90 degrees$"),
            (22.9, 180.5, "lon is not from -180"),
            (1e300, 1e300, "not from -90"),
        ],
    )
    def test_what_is_no_place_is_refused_with_a_hint_and_without_the_numbers(
        self, lat: float, lon: float, words: str
    ) -> None:
        with pytest.raises(LocationInvalid, match=words) as refused:
            self.at(lat, lon)
        for number in (lat, lon):
            assert str(number) not in refused.value.detail + json.dumps(refused.value.facts)

    def test_where_both_ways_round_are_places_the_swap_is_seen_by_the_city(self) -> None:
        """Rome's two numbers would both do as a latitude."""
        rome = [replace(TOWNS[0], lat=41.9, lon=12.5)]
        case = case_of(location={})._replace(places=Places(type(TOWNS)(rome)))
        assert check(case, Given(location=Location(41.9, 12.5))).town == 1
        with pytest.raises(LocationInvalid, match="are swapped"):
            check(case, Given(location=Location(12.5, 41.9)))

    @given(st.floats(), st.floats())
    def test_no_numbers_break_it(self, lat: float, lon: float) -> None:
        try:
            found = self.at(lat, lon)
        except (LocationInvalid, Outside):
            return
        assert 1 <= found.town <= len(TOWNS)

    def test_not_even_a_repr_tells_the_numbers(self) -> None:
        shown = repr(Given(location=Location(22.9123, 113.9123)))
        assert "22.9" not in shown
        assert "113.9" not in shown
