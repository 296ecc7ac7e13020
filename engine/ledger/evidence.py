"""What the ledger alone says of a drop's history: when it gave nothing out, what was fenced, what could not be read."""

from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.claims import history
from engine.drops.model import Status, to_ms
from engine.ids import ClaimId, DropId
from engine.ledger import actions
from engine.ledger.actions import Action

_FOR_EVER_MS = 2**53
_NAMED_MAX = 100
# Claims that were decided under an epoch, after a rebuild had begun the next one.
_FENCED = """
    select c.drop_id, c.partition, c.serial from claims c join operator_actions a on a.drop_id = c.drop_id
    where c.drop_id = :drop and a.verb = 'rebuild'
        and c.epoch < (a.after->>'epoch')::int and c.claimed_at > a.applied_at
    order by c.partition, c.serial limit :limit
"""
_BURIED = """
    select entry_id, error from dead_letters where coalesce(fields->>'drop', :drop) = :drop order by id limit :limit
"""


@dataclass(slots=True)
class Evidence:
    """See `engine.ledger.promises.History` for what each is."""

    shut: list[tuple[int, int]] = field(default_factory=list)
    skipped: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    fenced: list[ClaimId] = field(default_factory=list)
    buried: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)


async def gather(connection: AsyncConnection, drop_id: str, partitions: int) -> Evidence:
    """Everything that the ledger knows beside the claims themselves."""
    links = await actions.chain(connection)
    named = {"drop": drop_id, "limit": _NAMED_MAX}
    fenced = await connection.execute(text(_FENCED), named)
    buried = await connection.execute(text(_BURIED), named | {"drop": drop_id.encode().hex()})
    return Evidence(
        shut=shut([link.action for link in links if link.action.drop_id == drop_id]),
        skipped={p: await history.skipped(connection, drop_id, p) for p in range(partitions)},
        fenced=[ClaimId(DropId(row.drop_id), row.partition, row.serial) for row in fenced],
        buried=[f"{row.entry_id}: {row.error}" for row in buried],
        altered=actions.broken_links(links),
    )


def shut(acts: list[Action]) -> list[tuple[int, int]]:
    """The times (from ms, to ms) in which a drop was not launched, by the acts on it in order. Pure."""
    found: list[tuple[int, int]] = []
    since: int | None = None
    for act in acts:
        if act.revision is None:
            continue  # a release
        applied_ms = to_ms(act.applied_at)
        if act.after["status"] == Status.LAUNCHED:
            if since is not None:
                found.append((since, applied_ms))
            since = None
        elif since is None:
            since = applied_ms
    return found if since is None else [*found, (since, _FOR_EVER_MS)]
