"""The workload: who comes to a rush and how they behave, all of it from one seed.

The same seed gives the same people with the same wishes, whatever drives them: locust, the demo, or a test.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine import towns

# Shares of people, from what operators of such rushes report: most press more than once, some try for more.
_EARLY, _PATIENT, _CHECKS_RECEIPT, _GREEDY, _FORGER = 0.7, 0.05, 0.1, 0.05, 0.01
_PRESSES = (1, 1, 2, 2, 3)


@dataclass(frozen=True, slots=True)
class Person:
    """One member on the day of the rush.

    `presses`: how often the button is pressed with one ticket. `is_patient`: waits for the next wave when sold out.
    `is_greedy`: takes a second ticket and tries again. `is_forger`: alters the ticket first.
    """

    member_id: str
    town: str
    item: str
    is_early: bool
    presses: int
    is_patient: bool
    checks_receipt: bool
    is_greedy: bool
    is_forger: bool

    @property
    def town_number(self) -> int:
        """The number of the town, as tickets and client logs have it; 0 for none."""
        found = towns.load().named(self.town)
        return found.number if found else 0


def people(seed: int, count: int, items: Sequence[str], weights: Sequence[int]) -> Iterator[Person]:
    """The people of a rush: `count` of them, wishing for items in proportion to the weights."""
    chance, names = random.Random(seed), towns.load().zh()
    for number in range(count):
        yield Person(
            member_id=f"m-{seed}-{number}",
            town=chance.choice(names),
            item=chance.choices(items, weights)[0],
            is_early=chance.random() < _EARLY,
            presses=chance.choice(_PRESSES),
            is_patient=chance.random() < _PATIENT,
            checks_receipt=chance.random() < _CHECKS_RECEIPT,
            is_greedy=chance.random() < _GREEDY,
            is_forger=chance.random() < _FORGER,
        )
