"""The secrets of a data directory, in `keys.json`: made once, rotated by id, readable by their owner alone.

    {"ticket_keys": {id: hex}, "ticket_key_id": id, "receipt_keys": …, "instant_keys": …, "session_secret": hex,
     "person_key": hex, "key_times": {"ticket": {id: {"made_at": …, "replaced_at": …}}, "receipt": …}}

The file is written whole or not at all, by one process at a time. All names but `key_times` are settings.
"""

import asyncio
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import structlog

from engine.errors import FlashclaimError, Misconfigured, Refused

KEYS_FILE = "keys.json"
WATCH_S = 1.0  # how soon a running process takes up a changed file
SETTLE_S = 3 * WATCH_S  # after it every process that runs on the file has the new key, and may meet tickets under it
KEY_ID_MAX = 255
Kind = Literal["ticket", "receipt", "instant"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_LATER: tuple[Kind, ...] = ("instant",)  # a file of before has none of them
_log = structlog.get_logger(__name__)


class KeyInUse(Refused):
    """A key that is still needed cannot be retired."""

    code: ClassVar[str] = "key-in-use"


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys of one kind by id; `current` seals, a newer one waits until every process has it."""

    kind: Kind
    current: int
    keys: Mapping[int, str] = field(repr=False)
    made_at: Mapping[int, datetime] = field(default_factory=dict)
    replaced_at: Mapping[int, datetime] = field(default_factory=dict)

    @property
    def waiting(self) -> int | None:
        """The key that was added and does not seal yet."""
        newest = max(self.keys)
        return newest if newest > self.current else None

    def with_new(self, now: datetime) -> "Ring":
        """One key more, which does not seal yet."""
        new = max(self.keys) + 1
        if new > KEY_ID_MAX:
            raise Refused(f"key ids end at {KEY_ID_MAX}: no {self.kind} key can be added")
        return replace(self, keys={**self.keys, new: secrets.token_hex(32)}, made_at={**self.made_at, new: now})

    def with_waiting_current(self, now: datetime) -> "Ring":
        """The waiting key seals from now on."""
        assert self.waiting is not None
        return replace(self, current=self.waiting, replaced_at={**self.replaced_at, self.current: now})

    def without(self, key_id: int) -> "Ring":
        """One key less; raises `KeyInUse` for the one that seals, and for any key but a ticket's."""
        if key_id not in self.keys:
            raise Refused(f"there is no {self.kind} key {key_id}: `flashclaim keys show` lists them")
        if self.kind == "receipt":
            raise KeyInUse("a receipt key is never retired: receipts verify for ever under their key")
        if self.kind == "instant":
            raise KeyInUse("an instant key is never retired: the secret of each drop that was launched is made with it")
        if key_id == self.current:
            raise KeyInUse(f"{self.kind} key {key_id} is the current one: rotate first")
        return replace(
            self,
            keys={found: key for found, key in self.keys.items() if found != key_id},
            made_at={found: at for found, at in self.made_at.items() if found != key_id},
            replaced_at={found: at for found, at in self.replaced_at.items() if found != key_id},
        )

    def fingerprint(self, key_id: int) -> str:
        """See `fingerprint` below."""
        return fingerprint(self.keys[key_id])

    def shown(self) -> dict[str, Any]:
        """What a record may hold of the keys: ids and fingerprints."""
        return {
            "current": self.current,
            "keys": {str(key_id): self.fingerprint(key_id) for key_id in sorted(self.keys)},
        }


def fingerprint(secret: str) -> str:
    """Eight digits by which two copies of a secret that was made by chance can be compared; they tell nothing of it."""
    return blake2b(secret.encode(), digest_size=4, person=b"fingerprint").hexdigest()


def ensure_keys(data_dir: Path) -> None:
    """Make the secrets of a local instance once; what an earlier version did not make is added."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with _alone(data_dir):
        is_new = not (data_dir / KEYS_FILE).exists()
        kept = {"session_secret": secrets.token_hex(32)} if is_new else read(data_dir)
        missing = [kind for kind in (KINDS if is_new else _LATER) if f"{kind}_keys" not in kept]
        if missing or "person_key" not in kept:
            now = datetime.now(UTC)
            rings = [Ring(kind, 1, {1: secrets.token_hex(32)}, {1: now}) for kind in missing]
            _write(data_dir, _with_rings({"person_key": secrets.token_hex(32), **kept}, rings))


def read(data_dir: Path) -> dict[str, Any]:
    """What the file holds; empty without one. Raises `Misconfigured` when it is damaged or open to others."""
    path = data_dir / KEYS_FILE
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise Misconfigured(
            f"{path} can be read by others (mode {mode:o}): `chmod 600 {path}`, and rotate the keys if somebody has"
        )
    try:
        kept = json.loads(text)
        if isinstance(kept, dict):
            return kept
    except ValueError:
        pass  # said below; the parser's own error carries the text
    raise Misconfigured(f"{path} is damaged: restore it from a backup; new keys would make every receipt worthless")


def required(data_dir: Path) -> dict[str, Any]:
    """What the file holds; raises `Misconfigured` without one."""
    kept = read(data_dir)
    if not kept:
        raise Misconfigured(
            f"there are no keys in {data_dir}: name the data directory by --data, or let `flashclaim dev` make them"
        )
    return kept


def settings_in(data_dir: Path) -> dict[str, Any]:
    """The settings that the file holds."""
    return {name: value for name, value in read(data_dir).items() if name != "key_times"}


def ring_in(kept: Mapping[str, Any], kind: Kind) -> Ring:
    """The keys of one kind, from what a keys file or a process's environment holds."""
    try:
        keys = {int(key_id): str(key) for key_id, key in kept[f"{kind}_keys"].items()}
        current = int(kept.get(f"{kind}_key_id", 1))
        times = kept.get("key_times", {}).get(kind, {})
        made_at, replaced_at = (
            {int(i): datetime.fromisoformat(of[name]) for i, of in times.items() if name in of}
            for name in ("made_at", "replaced_at")
        )
    except (KeyError, ValueError, TypeError, AttributeError):
        raise Misconfigured(f"{kind}_keys is no mapping from key ids to secrets") from None
    if current not in keys:
        raise Misconfigured(f"{kind} key {current} is named as the current one, but is not among the keys")
    return Ring(kind, current, keys, made_at, replaced_at)


def shown(kept: Mapping[str, Any]) -> dict[str, Any]:
    """What a record may hold of a keys file: ids and fingerprints by kind."""
    return {kind: ring_in(kept, kind).shown() for kind in held(kept)}


def held(kept: Mapping[str, Any]) -> list[Kind]:
    """The kinds of keys in a keys file."""
    return [kind for kind in KINDS if kept and (kind not in _LATER or f"{kind}_keys" in kept)]


def change(data_dir: Path, kind: Kind, step: Callable[[Ring], Ring]) -> Ring:
    """Take one step with the keys of a kind, and keep it; what they are then."""
    with _alone(data_dir):
        kept = required(data_dir)
        ring = step(ring_in(kept, kind))
        _write(data_dir, _with_rings(kept, [ring]))
    return ring


def rotate(data_dir: Path, kind: Kind, settle_s: float = SETTLE_S) -> Ring:
    """Add a key, wait until every process on the file has it, and let it seal; what the keys are then.

    A rotation that was cut off is taken up where it was; of two at once both end with the same new key.
    """
    now = datetime.now(UTC)
    added = change(data_dir, kind, lambda ring: ring if ring.waiting else ring.with_new(now)).waiting
    time.sleep(settle_s)
    return change(
        data_dir,
        kind,
        lambda ring: ring.with_waiting_current(datetime.now(UTC)) if ring.waiting == added else ring,
    )


def rotate_session_secret(data_dir: Path) -> tuple[str, str]:
    """A new secret of the dev identity: every session token of before is void. Fingerprints of the old and the new."""
    new = secrets.token_hex(32)
    with _alone(data_dir):
        kept = required(data_dir)
        _write(data_dir, {**kept, "session_secret": new})
    return fingerprint(str(kept.get("session_secret", ""))), fingerprint(new)


def put(data_dir: Path, kept: dict[str, Any]) -> Path | None:
    """Put another keys file in place; one that holds other keys is kept beside it, and named."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with _alone(data_dir):
        before = read(data_dir)
        if before == kept:
            return None
        aside = None
        if before:
            aside = data_dir / f"keys.{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.json"
            (data_dir / KEYS_FILE).rename(aside)
        _write(data_dir, kept)
        return aside


async def watch(data_dir: Path, stop: asyncio.Event, take_up: Callable[[], None]) -> None:
    """Call `take_up` at once and whenever the file has changed; keys that cannot be read leave the old ones in use."""
    seen = None
    while not stop.is_set():
        now = _stamp(data_dir)
        if now != seen:
            seen = now
            try:
                take_up()
                _log.info("keys taken up")
            except FlashclaimError as error:
                _log.error("keys not taken up: the old ones stay in use", error=error.detail)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), WATCH_S)


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner alone, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # left over by a killed process
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)  # whatever the umask
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _stamp(data_dir: Path) -> tuple[int, int] | None:
    try:
        found = (data_dir / KEYS_FILE).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _with_rings(kept: dict[str, Any], rings: list[Ring]) -> dict[str, Any]:
    found = dict(kept)
    for ring in rings:
        times: dict[str, dict[str, str]] = {}
        for name, of in (("made_at", ring.made_at), ("replaced_at", ring.replaced_at)):
            for key_id, at in of.items():
                times.setdefault(str(key_id), {})[name] = at.isoformat()
        found[f"{ring.kind}_keys"] = {str(key_id): key for key_id, key in ring.keys.items()}
        found[f"{ring.kind}_key_id"] = ring.current
        found["key_times"] = {**found.get("key_times", {}), ring.kind: times}
    return found


def _write(data_dir: Path, kept: dict[str, Any]) -> None:
    write_private(data_dir / KEYS_FILE, json.dumps(kept, indent=2) + "\n")


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """One process at a time changes the keys; the lock is on the directory and goes with its holder."""
    directory = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)
