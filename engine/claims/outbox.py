"""The layout of an outbox entry, for the side that writes it (the scripts) and the side that reads it (the worker).

An entry is a stream entry with named fields. `kind` says which of the three it is:

    claim    drop, epoch, at, serial, claims    a batch; serials follow from `serial` on; packed as in wire.py
    release  drop, epoch, at, serial, item, quantity, subject, reason   `reason` is JSON: actor, reason
    control  drop, at, revision, control         `control` is JSON, see `control_text`
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from engine.claims.wire import ClaimRequest, unpack_request
from engine.drops.model import Control, Verb

GROUP = "ledger"  # the consumer group of the persistence workers
Fields = dict[bytes, bytes]
StreamEntry = tuple[bytes, Fields]  # id, fields


class EntryUnreadable(ValueError):
    """An entry that no version of this program has written; it belongs in the dead letters."""


@dataclass(frozen=True, slots=True)
class ClaimsEntry:
    """A batch; its claims stay packed until somebody asks."""

    drop_id: str
    epoch: int
    at_ms: int
    first_serial: int
    packed: bytes

    def claims(self) -> list[ClaimRequest]:
        """The claims, in the order of their serials; raises `EntryUnreadable`."""
        found, at = [], 0
        try:
            while at < len(self.packed):
                request, at = unpack_request(self.packed, at)
                found.append(request)
        except ValueError as error:
            raise EntryUnreadable(f"{type(error).__name__}: {error}") from error
        return found


@dataclass(frozen=True, slots=True)
class ReleaseEntry:
    drop_id: str
    epoch: int
    at_ms: int
    serial: int
    item: int
    quantity: int
    subject: str
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class ControlEntry:
    """An act; `at_ms` is when the store did it."""

    drop_id: str
    at_ms: int
    control: Control


Entry = ClaimsEntry | ReleaseEntry | ControlEntry


def decode(fields: Mapping[bytes, bytes]) -> Entry:
    """The decision that an entry's fields tell; raises `EntryUnreadable` for anything else."""
    try:
        match fields[b"kind"]:
            case b"claim":
                drop_id, packed = fields[b"drop"].decode(), fields[b"claims"]
                return ClaimsEntry(drop_id, int(fields[b"epoch"]), int(fields[b"at"]), int(fields[b"serial"]), packed)
            case b"release":
                return _release(fields)
            case b"control":
                control = control_from(json.loads(fields[b"control"]))
                return ControlEntry(fields[b"drop"].decode(), int(fields[b"at"]), control)
            case kind:
                raise EntryUnreadable(f"unknown kind {kind[:40]!r}")
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise EntryUnreadable(f"{type(error).__name__}: {error}") from error


def _release(fields: Mapping[bytes, bytes]) -> ReleaseEntry:
    why = json.loads(fields[b"reason"])
    return ReleaseEntry(
        drop_id=fields[b"drop"].decode(),
        epoch=int(fields[b"epoch"]),
        at_ms=int(fields[b"at"]),
        serial=int(fields[b"serial"]),
        item=int(fields[b"item"]),
        quantity=int(fields[b"quantity"]),
        subject=fields[b"subject"].decode(),
        actor=str(why["actor"]),
        reason=str(why["reason"]),
    )


def control_text(control: Control) -> str:
    """A control as JSON: the same text in the outbox and in the ledger."""
    return json.dumps({**asdict(control), "at": control.at.isoformat()}, ensure_ascii=False, default=str)


def control_from(data: Mapping[str, Any]) -> Control:
    """The control that `control_text` wrote; raises `KeyError` or `ValueError` for anything else."""
    return Control(
        verb=Verb(data["verb"]),
        revision=int(data["revision"]),
        actor=str(data["actor"]),
        at=datetime.fromisoformat(data["at"]),
        act=str(data["act"]),
        change=dict(data["change"]),
    )


def entry_order(entry_id: bytes) -> tuple[int, int]:
    """A stream entry's id as numbers that can be compared: the time in ms since 1970, and a sequence."""
    at_ms, _, sequence = entry_id.partition(b"-")
    return int(at_ms), int(sequence)
