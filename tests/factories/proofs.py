"""Proofs for tests: worked out as a client does it."""

from collections.abc import Mapping
from hashlib import sha256
from itertools import count
from typing import Any


def solved(asked: Mapping[str, Any]) -> str:
    """The proof for a challenge as the API tells it; from the words of docs/reference/answers.md, not from our code."""
    for number in count():
        proof = f"{asked['challenge']}.{number}"
        digest = sha256(proof.encode()).digest()
        if int.from_bytes(digest, "big") >> (256 - asked["bits"]) == 0:
            return proof
    raise AssertionError
