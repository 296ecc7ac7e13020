"""Every Redis key name; nowhere else is one spelled. `lua/README.md` maps what lies under each.

The braces are Redis Cluster's hash tag: all keys of a partition share a slot, so one script may use them together.
Buckets lie in the rates' store, the rest in the one that decides.
"""


def drop(partition: int, drop_id: str) -> str:
    """HASH: status, window, limit, waves and counters of a drop."""
    return f"fc:{{{partition}}}:drop:{drop_id}"


def claims(partition: int, drop_id: str) -> str:
    """HASH: subject → its packed claims on a drop."""
    return f"fc:{{{partition}}}:drop:{drop_id}:claims"


def outbox(partition: int) -> str:
    """STREAM: every decision of the partition, in order."""
    return f"fc:{{{partition}}}:outbox"


def home(partition: int) -> str:
    """STRING: the replication id of the store that was last compared with the ledger."""
    return f"fc:{{{partition}}}:home"


def told(partition: int) -> str:
    """HASH: drop → the highest serial that a caller was told and the state does not know."""
    return f"fc:{{{partition}}}:told"


def made(partition: int, drop_id: str) -> str:
    """HASH: as `claims`, while a rebuild makes them from the ledger."""
    return f"fc:{{{partition}}}:drop:{drop_id}:made"


def tally(partition: int, drop_id: str) -> str:
    """HASH: town and slogan → units, of the claims that were not given back."""
    return f"fc:{{{partition}}}:drop:{drop_id}:tally"


def prizes(partition: int, drop_id: str) -> str:
    """STRING: the prizes of an instant drop in the order in which they are dealt."""
    return f"fc:{{{partition}}}:drop:{drop_id}:prizes"


def bucket(what: str, whose: str, name: str) -> str:
    """STRING: when the next claim, or ticket request, of a member, an address or a client key is due."""
    return f"fc:{{rates}}:{what}:{whose}:{name}"
