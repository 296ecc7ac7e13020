"""The promise: an entrant needs a proof and the root to be sure of being in the drum, and no proof can be made up."""

from copy import deepcopy
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.draws.publication import Entrant, Proofs, commit
from engine.draws.verify import Json, Unreadable, check_proof, inclusion_path, levels, node, root_by_path
from tests.engine.draws import second
from tests.factories.draws import SECRET, closed_draw, draw_terms

# The leaves and roots by which implementations of Certificate Transparency are tested, from its reference
# implementation (google/certificate-transparency, cpp/merkletree/merkle_tree_test.cc).
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CLOSED = closed_draw()
PROOFS = Proofs(CLOSED)
NAMES = [entry[0] for entry in CLOSED["closed"]["entries"]]


def hashed(data: bytes) -> bytes:
    return sha256(b"\0" + data).digest()


class TestTree:
    def test_the_roots_are_those_of_certificate_transparency(self) -> None:
        leaves = [hashed(bytes.fromhex(leaf)) for leaf in LEAVES]
        assert [levels(leaves[:count])[-1][0].hex() for count in range(1, 9)] == ROOTS

    @pytest.mark.parametrize("count", [*range(20), 31, 32, 33, 100])
    def test_it_is_the_tree_and_these_are_the_paths_of_the_rfcs_own_words(self, count: int) -> None:
        leaves = [b"%d" % index for index in range(count)]
        tree = levels([hashed(leaf) for leaf in leaves])
        assert tree[-1] == [second.tree_root(leaves)]
        for index in range(count):
            path = inclusion_path(tree, index)
            assert path == second.tree_path(index, leaves)
            assert root_by_path(tree[0][index], index, count, path) == tree[-1][0]

    @given(count=st.integers(1, 40), data=st.data())
    def test_another_leaf_place_size_or_path_does_not_lead_to_the_root(self, count: int, data: st.DataObject) -> None:
        tree = levels([hashed(b"%d" % index) for index in range(count)])
        index = data.draw(st.integers(0, count - 1))
        leaf, path, root = tree[0][index], inclusion_path(tree, index), tree[-1][0]
        assert root_by_path(hashed(b"other"), index, count, path) != root
        for place in set(range(-1, count + 1)) - {index}:
            assert root_by_path(leaf, place, count, path) != root
        assert root_by_path(leaf, index, count, [*path, root]) != root
        if path:
            at = data.draw(st.integers(0, len(path) - 1))
            assert root_by_path(leaf, index, count, path[:at] + path[at + 1 :]) != root
            assert root_by_path(leaf, index, count, [*path[:at], bytes(32), *path[at + 1 :]]) != root

    def test_a_node_cannot_be_passed_off_as_an_entrant(self) -> None:
        """Leaves and nodes begin with different bytes: the two children of the root are no leaf's data."""
        tree = levels([hashed(b"a"), hashed(b"b")])
        assert hashed(b"".join(tree[0])) != tree[-1][0] == node(*tree[0])


class TestProof:
    @pytest.mark.parametrize("name", NAMES)
    def test_everybody_has_one(self, name: str) -> None:
        found = check_proof(CLOSED, PROOFS.of(name))
        assert (found.differences, list(found.lines())[-1]) == ([], "VALID")

    def test_of_an_only_entrant_it_is_empty(self) -> None:
        closed = closed_draw([Entrant("a")])
        proof = Proofs(closed).of("a")
        assert (proof["path"], check_proof(closed, proof).differences) == ([], [])

    @pytest.mark.parametrize(
        ("field", "value", "where"),
        [
            ("draw", "other", "proof.draw"),
            ("commitment", "0" * 64, "proof.commitment"),
            ("count", 21, "proof.count"),
            ("root", "0" * 64, "proof.root"),
            ("index", 3, "proof.path"),
            ("index", 20, "proof.path"),
            ("index", 10_000_000, "proof.path"),
            ("entry", ["goose.0.7", 1, 3, 200, 5], "proof.path"),
            ("entry", ["goose.0.77", 1, 2, 200, 5], "proof.path"),
            ("path", [], "proof.path"),
            ("path", ["0" * 64] * 64, "proof.path"),
        ],
    )
    def test_what_differs_is_named(self, field: str, value: Any, where: str) -> None:
        found = check_proof(CLOSED, PROOFS.of("goose.0.7") | {field: value})
        assert [difference.where for difference in found.differences] == [where]

    def test_a_proof_of_another_draw_is_none_of_this(self) -> None:
        other = Proofs(closed_draw([Entrant(name, 1) for name in NAMES])).of("goose.0.7")
        assert [difference.where for difference in check_proof(CLOSED, other).differences] == [
            "proof.root",
            "proof.path",
        ]

    @given(at=st.integers(0, 2), index=st.integers(0, 63))
    def test_a_digit_of_the_path(self, at: int, index: int) -> None:
        proof = deepcopy(PROOFS.of("goose.0.7"))
        line = proof["path"][at]
        proof["path"][at] = line[:index] + ("0" if line[index] != "0" else "1") + line[index + 1 :]
        assert [difference.where for difference in check_proof(CLOSED, proof).differences] == ["proof.path"]

    @pytest.mark.parametrize(
        "proof",
        [
            {},
            PROOFS.of("goose.0.7") | {"more": 1},
            PROOFS.of("goose.0.7") | {"format": "flashclaim-draw-1"},
            PROOFS.of("goose.0.7") | {"path": ["0" * 64] * 65},
            PROOFS.of("goose.0.7") | {"index": -1},
            PROOFS.of("goose.0.7") | {"entry": ["goose.0.7", 1, 2, 200]},
        ],
    )
    def test_what_is_no_proof_is_not_readable(self, proof: Json) -> None:
        with pytest.raises(Unreadable, match="the proof"):
            check_proof(CLOSED, proof)

    def test_before_the_close_there_is_no_root_to_check_it_by(self) -> None:
        with pytest.raises(Unreadable, match="no root yet"):
            check_proof(commit(draw_terms(), SECRET), PROOFS.of("goose.0.7"))
