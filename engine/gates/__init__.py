"""What stands before a ticket: a drop may ask a member for several things, each a file here, in the order of `GATES`.

First what a member can do nothing about, then what costs them a moment, then what costs their time or their machine's.

How to add one, such as a captcha: a file here with a class that does what `TicketGate` (model.py) says and with its
own refusals, its place in `GATES`, its part in `engine/drops/gates.py`, and its name in `Given`. `check` is on the fast
path and waits for nobody: a gate that must ask somebody has a route for that, which gives a pass (`issue_pass`).
"""

from collections.abc import Mapping

from engine.gates.location import LocationGate
from engine.gates.members_list import ListGate
from engine.gates.model import Case, Given, Passed, TicketGate
from engine.gates.proof_of_work import ProofOfWork
from engine.gates.quiz import QuizGate
from engine.gates.slogan import SloganGate

GATES: tuple[TicketGate, ...] = (ListGate(), LocationGate(), SloganGate(), QuizGate(), ProofOfWork())


def challenge(case: Case) -> list[Mapping[str, object]]:
    """All that a drop asks of a member before a ticket, in order; empty when it asks for nothing."""
    return [gate.asks(case) for gate in GATES if gate.stands(case.drop)]


def check(case: Case, given: Given) -> Passed:
    """What the drop's gates have established; raises the refusal of the first one that is not passed."""
    passed = Passed()
    for gate in GATES:
        if gate.stands(case.drop):
            passed = gate.check(case, given, passed)
            passed = passed._replace(gates=(*passed.gates, gate.name))
    return passed
