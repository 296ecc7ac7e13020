"""`flashclaim keys`: look at the keys that seal tickets and sign receipts, rotate them, retire old ones."""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.options import DEFAULT_DATA_DIR, AsJson, DataDir, found_data_dir, operator, print_json, print_table, say
from engine.errors import Misconfigured

if TYPE_CHECKING:
    from engine.runtime.keyfile import Kind, Ring

group = typer.Typer(no_args_is_help=True, help="Look at keys, rotate and retire them. No command shows a secret.")
EnvFile = Annotated[
    Path | None,
    typer.Option(
        help="Where keys come from the environment: write the new variables here (mode 600), - for standard output."
    ),
]


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="keys")


@group.command()
def show(as_json: AsJson = False, data: DataDir = None) -> None:
    """List the keys: ids, which one seals, since when, and a fingerprint to compare copies by."""
    from engine.runtime.keyfile import KINDS, held, required, ring_in

    given = {kind: _given(kind) for kind in KINDS}
    kept = {} if given["ticket"] and given["receipt"] else required(_data_dir(data))
    rings = [ring_in(given[kind] or kept, kind) for kind in KINDS if given[kind] or kind in held(kept)]
    rows = [
        {
            "kind": ring.kind,
            "id": key_id,
            "state": _state(ring, key_id),
            "made_at": _date(ring.made_at.get(key_id)),
            "replaced_at": _date(ring.replaced_at.get(key_id)),
            "fingerprint": ring.fingerprint(key_id),
        }
        for ring in rings
        for key_id in sorted(ring.keys)
    ]
    if as_json:
        print_json(rows)
    else:
        print_table("keys", list(rows[0]), [list(row.values()) for row in rows])


@group.command()
def rotate(
    kind: Annotated[Literal["ticket", "receipt", "instant", "session"], typer.Argument(help="Which keys.")],
    env_file: EnvFile = None,
    data: DataDir = None,
) -> None:
    """Add a new key, let every process take it up, then seal with it. Old keys go on opening what they sealed.

    Where keys come from the environment it is two calls: the first adds the key, which you bring to every server; the
    second, with the new variables set, makes it the one that seals. `session` makes a new secret for the dev identity,
    while no instance runs: every session token is void then.

    It goes without the ledger, for a key may have leaked; then it says that no row of the act was written.

    Example:  flashclaim keys rotate ticket --data .flashclaim
    """
    from engine.runtime import keyfile

    data_dir = _data_dir(data)
    before: dict[str, Any]
    if kind == "session":
        before, after = _rotate_session(data_dir)
    elif given := _given(kind):
        before, after = keyfile.ring_in(given, kind).shown(), _turn(given, kind, env_file).shown()
    else:
        before = keyfile.ring_in(keyfile.required(data_dir), kind).shown()
        say(f"adding a {kind} key; it seals once every process has it, in {keyfile.SETTLE_S:.0f} s")
        ring = keyfile.rotate(data_dir, kind)
        say(f"{kind} key {ring.current} seals now; the others go on opening")
        after = ring.shown()
    _record(f"key:{kind}", "rotate", _where(kind, data_dir), before, after, data_dir)


@group.command()
def retire(
    kind: Annotated[Literal["ticket", "receipt"], typer.Argument(help="Which keys; a receipt key is never retired.")],
    key_id: Annotated[int, typer.Argument(metavar="ID", help="The key's id.")],
    force: Annotated[bool, typer.Option("--force", help="Though tickets under it may still be good.")] = False,
    env_file: EnvFile = None,
    data: DataDir = None,
) -> None:
    """Remove an old ticket key, once no ticket under it can be good any more.

    Example:  flashclaim keys retire ticket 1
    """
    from engine.runtime import keyfile

    given, data_dir = _given(kind), _data_dir(data)
    ring = keyfile.ring_in(given or keyfile.required(data_dir), kind)
    ring.without(key_id)  # says first what no ledger needs to be asked for
    if not force:
        asyncio.run(_check_expired(ring, key_id, found_data_dir(data)))
    rest = ring.without(key_id)
    if given:
        _tell(rest, env_file)
    else:
        rest = keyfile.change(data_dir, kind, lambda ring: ring.without(key_id))
    say(f"{kind} key {key_id} is retired: tickets under it are refused as not valid")
    change = {**_where(kind, data_dir), "id": key_id, "force": force}
    _record(f"key:{kind}", "retire", change, ring.shown(), rest.shown(), data_dir)


def _where(kind: str, data_dir: Path) -> dict[str, Any]:
    return {"keys_of": "environment" if _given(kind) else str(data_dir.resolve())}


def _record(
    of: str, verb: str, change: dict[str, Any], before: dict[str, Any], after: dict[str, Any], data_dir: Path
) -> None:
    """Write the act into the ledger's record, once it is done: a leaked key waits for no ledger."""
    from engine.bounds import LEDGER_LOCK_TIMEOUT
    from engine.ledger import actions, migrations
    from engine.runtime.connections import open_stores
    from engine.runtime.settings import load_settings
    from engine.runtime.telemetry import without_secrets

    async def append() -> None:
        async with open_stores(load_settings(data_dir)) as stores, stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            await actions.record(connection, of, verb, operator(), change=change, before=before, after=after)

    try:
        asyncio.run(append())
    except Exception as error:  # noqa: BLE001 (whatever it is: the keys are changed, and that must be known)
        why = without_secrets(getattr(error, "detail", "") or str(error) or type(error).__name__).splitlines()[0][:300]
        say(f"the keys are changed, but NO ROW of it was written in the ledger's record of acts ({why}): note it down")


async def _check_expired(ring: "Ring", key_id: int, data_dir: Path | None) -> None:
    """Refuse while a ticket that a key sealed may be good; a ledger that is away leaves it unknown."""
    from sqlalchemy.exc import SQLAlchemyError

    from engine.drops import store
    from engine.runtime.connections import open_stores
    from engine.runtime.keyfile import SETTLE_S, KeyInUse
    from engine.runtime.settings import load_settings

    now = datetime.now(UTC)
    settings = load_settings(data_dir)
    try:
        async with open_stores(settings) as stores, stores.ledger.connect() as connection:
            sealed_until = ring.replaced_at.get(key_id, now) + timedelta(seconds=SETTLE_S)
            expires = await store.last_ticket_expires(connection, sealed_until, settings.ticket_ttl_s)
    except (SQLAlchemyError, OSError):
        raise KeyInUse("the ledger does not answer, so no ticket can be ruled out: later, or --force") from None
    if expires is not None and expires > now:
        until = f"{expires.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        raise KeyInUse(f"a ticket under key {key_id} may be good until {until}: retire it later, or --force")


def _turn(given: dict[str, Any], kind: "Kind", env_file: Path | None) -> "Ring":
    """One of the two steps of a rotation in the environment; what the keys are then."""
    from engine.runtime.keyfile import ring_in

    now = datetime.now(UTC)
    ring = ring_in(given, kind)
    if ring.waiting is None:
        ring = ring.with_new(now)
        _tell(ring, env_file)
        say(f"bring these to every server and restart it; then rotate again there, and {kind} key {ring.waiting} seals")
    else:
        ring = ring.with_waiting_current(now)
        _tell(ring, env_file)
        say(f"bring these to every server and restart it: {kind} key {ring.current} seals from then on")
    return ring


def _tell(ring: "Ring", env_file: Path | None) -> None:
    """Write the variables of a ring where the caller said."""
    from engine.runtime.keyfile import write_private

    if env_file is None:
        raise Misconfigured(
            "the keys come from the environment here: say by --env-file where the new variables go (- prints them)"
        )
    name = f"FLASHCLAIM_{ring.kind.upper()}_KEY"
    keys = json.dumps({str(key_id): key for key_id, key in ring.keys.items()})
    text = f"{name}S={keys}\n{name}_ID={ring.current}\n"
    if str(env_file) == "-":
        sys.stdout.write(text)
    else:
        write_private(env_file, text)


def _rotate_session(data_dir: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from engine.runtime import keyfile
    from engine.runtime.settings import DEV_FILE

    if (data_dir / DEV_FILE).exists():
        raise Misconfigured(f"an instance runs in {data_dir}, and goes on with the old secret: stop it first")
    old, new = keyfile.rotate_session_secret(data_dir)
    say("the dev identity has a new secret: every session token of before is void")
    return {"fingerprint": old}, {"fingerprint": new}


def _given(kind: str) -> dict[str, Any]:
    """What the environment says of a kind of keys; empty when the keys are those of the data directory."""
    from engine.runtime.settings import keys_given

    given = keys_given()
    return given if f"{kind}_keys" in given else {}


def _data_dir(data: Path | None) -> Path:
    """Keys outlive the instance: unlike for other commands, none needs to run in the directory."""
    return data or DEFAULT_DATA_DIR


def _state(ring: "Ring", key_id: int) -> str:
    if key_id == ring.current:
        return {"ticket": "seals", "receipt": "signs", "instant": "commits"}[ring.kind]
    if key_id == ring.waiting:
        return "waiting"
    return {"ticket": "opens", "receipt": "verifies", "instant": "reveals"}[ring.kind]


def _date(at: datetime | None) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else ""
