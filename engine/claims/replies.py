"""What an error reply of the store means: whether anything was done, and what to tell. Pure.

Only what certainly did nothing is said to have done nothing; whatever is not known here is an unknown outcome.
Source of the words: https://valkey.io/topics/protocol/ (simple errors) and Valkey's own server.c, cluster.c, script.c.
"""

from collections.abc import Mapping

from engine.claims.model import OutcomeUnknown, StoreUnavailable
from engine.errors import Unavailable

# First word of an error that comes before anything was written, and what it means. In a script the first write is the
# outbox entry, so one that is refused by memory, disk or replicas has changed nothing either.
NOTHING_DONE: Mapping[str, str] = {
    "BUSY": "it is busy with a script that runs too long",
    "LOADING": "it is reading its data from disk",
    "MISCONF": "it cannot write to its disk",
    "OOM": "its memory is full",
    "READONLY": "it is a replica now",
    "MASTERDOWN": "it is a replica that lost its primary",
    "NOREPLICAS": "too few replicas follow it",
    "MOVED": "it is one node of a cluster, and another one has these keys",
    "ASK": "it is one node of a cluster, and another one is taking these keys over",
    "TRYAGAIN": "it is one node of a cluster, and these keys are being moved",
    "CROSSSLOT": "it is one node of a cluster, and these keys are not together",
    "CLUSTERDOWN": "its cluster is not whole",
    "NOAUTH": "it asks for a password",
    "WRONGPASS": "it does not take our password",
    "NOPERM": "our user may not do this",
}
# Behind a name or an address that has moved, a new connection finds the new primary.
ELSEWHERE = frozenset({"READONLY", "MASTERDOWN", "NOAUTH"})


def kind(error: Exception) -> str:
    """The first word of an error reply."""
    return str(error).partition(" ")[0]


def meaning(error: Exception) -> Unavailable:
    """What to tell a member of a script call that the store answered with an error."""
    known = NOTHING_DONE.get(kind(error))
    if known is None:
        return OutcomeUnknown("the store failed on the way: send the same ticket again to learn the outcome")
    return StoreUnavailable(f"the store refuses to work now ({known}): try again")
