"""What clients were told: their logs and their receipts, as files that people bring."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from engine.claims import receipt
from engine.claims.keyring import Keyring
from engine.claims.receipt import ReceiptBody, ReceiptInvalid
from engine.claims.wire import ClaimRequest
from engine.drops.model import Drop
from engine.errors import Invalid
from engine.ids import ClaimId, DropId
from engine.ledger.facts import Fact, SoldOut
from engine.towns import TOWNS_MAX


class ClientLogInvalid(Invalid):
    code: ClassVar[str] = "client-log-invalid"


@dataclass(slots=True)
class ClientLog:
    """What clients were told, and what is wrong with the log itself."""

    told: list[Fact] = field(default_factory=list)
    sold_out: list[SoldOut] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_client_log(path: Path | None, drop: Drop, keyring: Keyring) -> ClientLog:
    """A log of JSON lines: claims with a receipt each, and refusals with the times in ms when they were asked and told.

    The receipt is what counts: a line whose own words differ from its receipt is a difference.
    """
    found = ClientLog()
    for number, line in _lines(path) if path is not None else ():
        if line.get("drop_id") != drop.id:
            continue
        try:
            if line.get("code") == "sold-out":
                found.sold_out.append(_sold_out(line, drop))
            else:
                found.told.append(_told(line, drop, keyring))
        except (ReceiptInvalid, _Contradiction, KeyError, TypeError, ValueError) as error:
            found.faults.append(f"client log line {number}: {error}")
    return found


class _Contradiction(Exception):
    """A line says something else than its receipt."""


def _told(line: Mapping[str, Any], drop: Drop, keyring: Keyring) -> Fact:
    body = receipt.verify(keyring, str(line.get("receipt", "")))
    said = (line.get("claim_id"), line.get("serial"), line.get("quantity"), line.get("item"))
    item = drop.spec.items[body.request.item - 1].id
    if said != (str(body.claim_id), body.claim_id.serial, body.request.quantity, item):
        raise _Contradiction(f"the answer said {said}, its receipt says {body.claim_id}")
    return fact(body.claim_id, body.request, body.at_ms)


def _sold_out(line: Mapping[str, Any], drop: Drop) -> SoldOut:
    item = drop.item_index(str(line["item"]))
    if item is None:
        raise ValueError(f"the drop has no item {line['item']!r}")
    town = line.get("town", 0)  # the number of the member's town, by which a reserve may be theirs
    if type(town) is not int or not 0 <= town <= TOWNS_MAX:
        raise ValueError(f"town {str(town)[:20]!r} is not a number from 0 to {TOWNS_MAX}")
    return SoldOut(item, int(line["quantity"]), int(line["sent_ms"]), int(line["answered_ms"]), town)


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, start=1):
                line = json.loads(text)
                if not isinstance(line, Mapping):
                    raise ValueError("not an object")
                yield number, line
    except OSError as error:
        raise ClientLogInvalid(f"{path}: {error}") from None
    except ValueError as error:
        raise ClientLogInvalid(f"{path}: a line is not a JSON object ({error})") from None


def read_receipts(path: Path, keyring: Keyring) -> tuple[list[ReceiptBody], list[str]]:
    """The receipts in a file, one a line, plain or in a client log's JSON; and what is wrong with the other lines."""
    found: list[ReceiptBody] = []
    faults: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ClientLogInvalid(f"{path}: {error}") from None
    for number, line in enumerate(lines, start=1):
        try:
            text = _receipt_in(line.strip())
            if text:
                found.append(receipt.verify(keyring, text))
        except (ReceiptInvalid, ValueError) as error:
            faults.append(f"{path.name} line {number}: {error}")
    return found, faults


def _receipt_in(line: str) -> str:
    """The receipt in a line; empty for a line that holds none, such as a refusal in a client log."""
    return str(json.loads(line).get("receipt", "")) if line.startswith("{") else line


def fact(claim_id: ClaimId, request: ClaimRequest, at_ms: int) -> Fact:
    return Fact(
        ClaimId(DropId(claim_id.drop_id), claim_id.partition, claim_id.serial),
        request.subject,
        request.nonce,
        request.item,
        request.quantity,
        at_ms,
        request.town,
        request.slogan,
    )
