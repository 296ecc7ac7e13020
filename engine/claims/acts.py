"""What the scripts beside `claim` and `release` do to a partition's state, as pure functions: the rest of the model.

Each answers with the same words as its script, without the time. The property tests hold them against the scripts.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.claims.decide import Allotted, DropState, PartitionState
from engine.claims.wire import StoredClaim, pack_stored, unpack_prizes, unpack_stored
from engine.drops.membership import scopes_from


class Act(NamedTuple):
    """One act on a drop: `fields` are those of its hash that the act sets, `prizes` its whole sequence, if it has one.

    A rebuild sets all fields, and the tallies by town and slogan too.
    """

    revision: int
    id: str
    fields: Mapping[str, str]
    prizes: bytes = b""
    tallies: Mapping[str, str] = {}


class Change(NamedTuple):
    """A field of a hash: its value as it was seen (empty: none), and what it shall be."""

    field: str
    seen: bytes
    wanted: bytes


def control(partition: PartitionState, drop_id: str, home: str, act: Act) -> str:
    """As `lua/control.lua`."""
    if home != partition.home:
        return "not-ready"
    state = partition.drops.get(drop_id)
    if state is not None:
        if state.revision >= act.revision:
            return _not_newer(state, act)
    elif act.revision != 1:
        return "not-ready"
    state = partition.drops.setdefault(drop_id, _blank())
    epoch = state.epoch
    _set(state, act.fields)
    state.epoch = max(epoch, state.epoch)  # a fence stands until the drop is rebuilt
    for item in range(1, int(act.fields["items"]) + 1):
        state.taken.setdefault(item, 0)
    for allotted in state.allotments:
        state.town_taken.setdefault((allotted.item, allotted.town), 0)
    _set_prizes(state, act.prizes)
    state.revision, state.act = act.revision, act.id
    return "applied"


def fence(partition: PartitionState, drop_id: str, epoch: int) -> str:
    """As `lua/fence.lua`."""
    state = partition.drops.get(drop_id)
    if state is None:
        return "absent"
    if state.epoch > epoch:
        return "later"
    state.epoch, state.fenced = epoch, True
    return "fenced"


def rebuild(partition: PartitionState, drop_id: str, act: Act, subjects: int) -> str:
    """As `lua/rebuild.lua`: `fields` are all of the drop's, its claims are those made before for so many subjects."""
    before = partition.drops.get(drop_id)
    if before is not None and before.revision >= act.revision:
        return _not_newer(before, act)
    if len(partition.made.get(drop_id, ())) != subjects:
        return "unmade"
    if before is not None and before.epoch != int(act.fields["epoch"]):
        return "unfenced"
    if partition.told.get(drop_id, 0) > int(act.fields["serial"]):
        return "told"
    state = partition.drops[drop_id] = _blank()
    _set(state, act.fields)
    _set_prizes(state, act.prizes)
    _set_tallies(state, act.tallies)
    state.revision, state.act = act.revision, act.id
    state.claims = partition.made.pop(drop_id, {})
    partition.told.pop(drop_id, None)
    return "applied"


def settle(partition: PartitionState, home: str, compared: str) -> str:
    """As `lua/settle.lua`."""
    if home != compared:
        return "other"
    partition.home = home
    return "settled"


def repair_drop(partition: PartitionState, drop_id: str, home: str, changes: Sequence[Change]) -> str:
    """As `lua/repair.lua` on the hash of a drop."""
    state = partition.drops.get(drop_id)
    found = fields_of(state) if state is not None else {}
    if home != partition.home or any(found.get(change.field, "").encode() != change.seen for change in changes):
        return "moved"
    if state is not None:
        _set(state, {change.field: change.wanted.decode() for change in changes})
    return "repaired"


def repair_claims(partition: PartitionState, drop_id: str, home: str, changes: Sequence[Change]) -> str:
    """As `lua/repair.lua` on the hash of a drop's claims."""
    state = partition.drops.get(drop_id)
    claims = state.claims if state is not None else {}
    if home != partition.home or any(packed(claims, change.field) != change.seen for change in changes):
        return "moved"
    for change in changes:
        claims[change.field] = unpack_stored(change.wanted)
    return "repaired"


def packed(claims: Mapping[str, Sequence[StoredClaim]], subject: str) -> bytes:
    """A subject's claims as the store keeps them."""
    return b"".join(map(pack_stored, claims.get(subject, ())))


def fields_of(state: DropState) -> dict[str, str]:
    """The drop's hash."""
    return {
        "status": state.status,
        "epoch": str(state.epoch),
        "revision": str(state.revision),
        "act": state.act,
        "opens_ms": str(state.opens_ms),
        "closes_ms": str(state.closes_ms),
        "limit": str(state.limit),
        "items": str(len(state.taken)),
        "waves": ",".join(f"{at}:{item}:{quantity}" for at, item, quantity in state.waves),
        "serial": str(state.serial),
        "allotments": ",".join(":".join(map(str, allotted)) for allotted in state.allotments),
        "family": ",".join(state.family),
        "scopes": "|".join(str(scope) for scope in state.scopes),
        "prizes": str(len(state.prizes)),
        "dealt": str(state.dealt),
        **{f"taken:{item}:{town}": str(units) for (item, town), units in state.town_taken.items()},
        **{f"taken:{item}": str(units) for item, units in state.taken.items()},
        **({"fenced": "1"} if state.fenced else {}),
    }


def _not_newer(state: DropState, act: Act) -> str:
    """What an act hears that the drop is not waiting for."""
    return "already" if (state.revision, state.act) == (act.revision, act.id) else f"stale:{state.revision}"


def _blank() -> DropState:
    return DropState("", 0, 0, 0, 0, [], {})


def _set(state: DropState, fields: Mapping[str, str]) -> None:
    for name, value in fields.items():
        if name == "status":
            state.status = value
        elif name == "waves":
            waves = [tuple(map(int, wave.split(":"))) for wave in value.split(",") if wave]
            state.waves = [(at, item, quantity) for at, item, quantity in waves]
        elif name == "allotments":
            state.allotments = [Allotted(*map(int, part.split(":"))) for part in value.split(",") if part]
        elif name == "family":
            state.family = tuple(filter(None, value.split(",")))
        elif name == "scopes":
            state.scopes = scopes_from(value)
        elif name.startswith("taken:"):
            _set_taken(state, name.split(":")[1:], int(value))
        elif name not in ("items", "prizes"):
            setattr(state, name, int(value))


def _set_taken(state: DropState, of: Sequence[str], units: int) -> None:
    """Set the counter of an item, or of an item and a town."""
    if len(of) == 1:
        state.taken[int(of[0])] = units
    else:
        state.town_taken[int(of[0]), int(of[1])] = units


def _set_prizes(state: DropState, packed: bytes) -> None:
    if packed:
        state.prizes = unpack_prizes(packed)


def _set_tallies(state: DropState, tallies: Mapping[str, str]) -> None:
    for name, units in tallies.items():
        town, slogan = map(int, name.split(":"))
        state.tallies[town, slogan] = int(units)
