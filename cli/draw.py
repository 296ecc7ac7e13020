"""`flashclaim draw …`: a draw's stages, what is published of it, and the check that anybody can make.

These commands work on the stores themselves, as `rebuild` does: a million entries take longer than a request may.
"""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cli.options import AsJson, DataDir, found_data_dir, operator, print_json, print_table, say

if TYPE_CHECKING:
    from engine.draws.model import Draw
    from engine.draws.publication import BeaconValue
    from engine.draws.service import Draws
    from engine.drops.model import Actor
    from engine.drops.service import Drops

T = TypeVar("T")
DrawArgument = Annotated[str, typer.Argument(metavar="DRAW", help="The draw's id, which is its drop's.")]
group = typer.Typer(no_args_is_help=True, help="Commit to a draw, close it, reveal it, and check it.")


@group.command()
def commit(draw: DrawArgument, as_json: AsJson = False, data: DataDir = None) -> None:
    """Commit to a draft's rules, before its opening; launch it after that.

    Example:  flashclaim draw commit goose-2025
    """
    _show(_with_draws(data, lambda draws, _, actor: draws.commit(draw, actor)), as_json)


@group.command()
def close(draw: DrawArgument, as_json: AsJson = False, data: DataDir = None) -> None:
    """Publish entrants and root, after the drop's close and before the beacon's first round is due.

    Example:  flashclaim draw close goose-2025
    """
    _show(_with_draws(data, lambda draws, _, actor: draws.close(draw, actor)), as_json)


@group.command()
def reveal(
    draw: DrawArgument,
    number: Annotated[int, typer.Option("--round", help="The round of the beacon.")],
    value: Annotated[str | None, typer.Option(help="Its value in hex.")] = None,
    value_file: Annotated[Path | None, typer.Option(help="A file that holds its value in hex.")] = None,
    seen_at: Annotated[datetime | None, typer.Option(help="When it was seen, in UTC; now unless it is given.")] = None,
    as_json: AsJson = False,
    data: DataDir = None,
) -> None:
    """Publish the result by the beacon's value; without a value it is read at the address in the draw's definition.

    Example:  flashclaim draw reveal goose-2025 --round 22310500 --value-file round.hex
    """
    from engine.draws.publication import BeaconValue

    given = value if value_file is None else _text(value_file)

    async def act(draws: "Draws", drops: "Drops", actor: "Actor") -> "Draw":
        seen = seen_at.replace(tzinfo=UTC) if seen_at else datetime.now(UTC)
        beacon = await _read_beacon(drops, draw, number) if given is None else BeaconValue(number, given.strip(), seen)
        return await draws.reveal(draw, beacon, actor)

    _show(_with_draws(data, act), as_json)


@group.command()
def lapse(draw: DrawArgument, as_json: AsJson = False, data: DataDir = None) -> None:
    """Let offers lapse whose time is over, and offer their prizes to the next of the waiting list.

    Example:  flashclaim draw lapse goose-2025
    """
    changed = _with_draws(data, lambda draws, _, actor: draws.awarding.lapse(draw, actor))
    figures = {name: len(places) for name, places in changed._asdict().items()}
    if as_json:
        print_json(figures)
    else:
        print_table(f"awards of {draw}", ["now", "awards"], [[name, count] for name, count in figures.items()])


@group.command()
def void(
    draw: DrawArgument,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    as_json: AsJson = False,
    data: DataDir = None,
) -> None:
    """End a draw that can have no result: no round of the beacon had a value, or entries were closed too late.

    Example:  flashclaim draw void goose-2025 --reason "no round had a value"
    """
    _show(_with_draws(data, lambda draws, _, actor: draws.void(draw, actor, reason)), as_json)


@group.command()
def show(draw: DrawArgument, as_json: AsJson = False, data: DataDir = None) -> None:
    """Show where a draw stands.

    Example:  flashclaim draw show goose-2025
    """
    _show(_with_draws(data, lambda draws, _, __: draws.read(draw)), as_json)


@group.command()
def publish(
    draw: DrawArgument,
    out: Annotated[Path, typer.Option(help="The file to write; one that is there is replaced.")],
    data: DataDir = None,
) -> None:
    """Write what is published of a draw to a file, which anybody can verify.

    Example:  flashclaim draw publish goose-2025 --out draw.json
    """
    found, packed = _with_draws(data, lambda draws, _, __: draws.document(draw))
    beside = out.with_name(f"{out.name}.part")
    try:
        beside.write_bytes(gzip.decompress(packed))
        beside.replace(out)
    except OSError as error:
        raise typer.BadParameter(f"{out}: {error}") from None
    say(f"{out}: draw {draw}, {found.state}, commitment {found.commitment}")


@group.command()
def proof(
    draw: DrawArgument,
    entrant: Annotated[str, typer.Argument(help="The id of the claim that is the entry.")],
    data: DataDir = None,
) -> None:
    """Print the proof that an entry is in a draw.

    Example:  flashclaim draw proof goose-2025 goose-2025.0.17 > mine.json
    """
    print(json.dumps(_with_draws(data, lambda draws, _, __: draws.proof(draw, entrant)), indent=2))


@group.command()
def verify(
    file: Annotated[Path, typer.Argument(help="What was published.")],
    proof: Annotated[Path | None, typer.Option(help="An entrant's proof, checked too.")] = None,
) -> None:
    """Check a published file. Needs no stores and no network: it is `engine/draws/verify.py`, which runs alone, too.

    Example:  flashclaim draw verify draw.json --proof mine.json
    """
    from engine.draws import verify as verifier

    code = verifier.main([str(file), *(["--proof", str(proof)] if proof else [])])
    if code:
        raise typer.Exit(code)


def _with_draws(data: Path | None, act: "Callable[[Draws, Drops, Actor], Awaitable[T]]") -> T:
    return asyncio.run(_acted(data, act))


async def _acted(data: Path | None, act: "Callable[[Draws, Drops, Actor], Awaitable[T]]") -> T:
    from engine.draws.service import Draws
    from engine.drops.model import Actor
    from engine.drops.service import Drops
    from engine.runtime.connections import open_stores
    from engine.runtime.settings import load_settings

    settings = load_settings(found_data_dir(data))
    async with open_stores(settings) as stores:
        drops = Drops(stores.redis, stores.scripts, stores.ledger, settings.partitions)
        return await act(Draws(stores, drops, settings.partitions), drops, Actor(operator()))


async def _read_beacon(drops: "Drops", draw: str, number: int) -> "BeaconValue":
    from engine.draws import beacon
    from engine.draws.model import rules_of

    url = rules_of((await drops.read(draw)).spec).beacon.url
    if url is None:
        raise typer.BadParameter("give --value or --value-file: the draw names no address of its beacon")
    return await beacon.read(url, number, lambda: datetime.now(UTC))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")[:1_000]
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: {error}") from None


def _show(draw: "Draw", as_json: bool) -> None:
    figures: dict[str, Any] = asdict(draw)
    if as_json:
        print_json(figures)
    else:
        print_table(f"draw {draw.drop_id}", ["what", "value"], [[name, value] for name, value in figures.items()])


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="draw")
