"""The promise: keys are made once, for their owner alone; a rotation leaves no process without a key it meets."""

import asyncio
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Misconfigured, Refused
from engine.runtime import keyfile
from engine.runtime.keyfile import KeyInUse, ring_in
from engine.runtime.settings import load_settings

NOW = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    keyfile.ensure_keys(tmp_path)
    return tmp_path


def kept(data_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data_dir / "keys.json").read_text())
    return found


class TestTheFile:
    def test_of_an_earlier_version_gets_the_key_of_persons_once(self, data_dir: Path) -> None:
        """Made anew it would be another, and limits would not know people again."""
        old = {name: value for name, value in kept(data_dir).items() if name != "person_key"}
        keyfile.put(data_dir, old)
        keyfile.ensure_keys(data_dir)
        found = kept(data_dir)
        assert {**old, "person_key": found["person_key"]} == found
        keyfile.ensure_keys(data_dir)
        assert kept(data_dir) == found

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
    def test_is_for_its_owner_alone_whatever_the_umask(self, tmp_path: Path, umask: int) -> None:
        before = os.umask(umask)
        try:
            keyfile.ensure_keys(tmp_path)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
    def test_is_refused_when_others_may_read_it(self, data_dir: Path, mode: int) -> None:
        (data_dir / "keys.json").chmod(mode)
        for use in (keyfile.ensure_keys, keyfile.read, load_settings):
            with pytest.raises(Misconfigured, match=f"mode {mode:o}.*chmod 600"):
                use(data_dir)

    @pytest.mark.parametrize("text", ["", "{", "[]", '"x"', '{"ticket_keys": {"1": "se'])
    def test_is_never_made_anew_when_damaged(self, data_dir: Path, text: str) -> None:
        (data_dir / "keys.json").write_text(text)
        for use in (keyfile.ensure_keys, keyfile.read, load_settings):
            with pytest.raises(Misconfigured, match=r"damaged.*backup"):
                use(data_dir)
        assert (data_dir / "keys.json").read_text() == text

    def test_is_made_once_by_many_first_starts(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: keyfile.ensure_keys(tmp_path), range(16)))
        first = kept(tmp_path)
        keyfile.ensure_keys(tmp_path)
        assert kept(tmp_path) == first
        assert sorted(path.name for path in tmp_path.iterdir()) == ["keys.json"]

    def test_of_an_older_version_still_works(self, data_dir: Path) -> None:
        old = {name: kept(data_dir)[name] for name in ("ticket_keys", "receipt_keys", "session_secret")}
        keyfile.write_private(data_dir / "keys.json", json.dumps(old))
        ring = keyfile.rotate(data_dir, "ticket", settle_s=0)
        assert ring.current == 2
        assert kept(data_dir)["ticket_keys"]["1"] == old["ticket_keys"]["1"]

    def test_of_before_instant_wins_gets_a_key_for_them_and_keeps_the_others(self, data_dir: Path) -> None:
        old = {name: value for name, value in kept(data_dir).items() if "instant" not in name}
        keyfile.write_private(data_dir / "keys.json", json.dumps(old))
        assert list(keyfile.shown(kept(data_dir))) == ["ticket", "receipt"]
        keyfile.ensure_keys(data_dir)
        first = kept(data_dir)
        assert {name: first[name] for name in old if name != "key_times"} == {
            name: old[name] for name in old if name != "key_times"
        }
        assert len(first["instant_keys"]["1"]) == 64
        keyfile.ensure_keys(data_dir)
        assert kept(data_dir) == first

    def test_that_was_half_written_by_a_killed_process_is_not_met(self, data_dir: Path) -> None:
        (data_dir / "keys.json.new").write_text("{")
        keyfile.rotate(data_dir, "receipt", settle_s=0)
        assert ring_in(kept(data_dir), "receipt").current == 2
        assert not (data_dir / "keys.json.new").exists()

    def test_shows_no_secret_of_its_own(self, data_dir: Path) -> None:
        ring = ring_in(kept(data_dir), "ticket")
        assert ring.keys[1] not in repr(ring)
        assert ring.keys[1] not in ring.fingerprint(1)
        assert ring.fingerprint(1) != ring_in(kept(data_dir), "receipt").fingerprint(1)


class TestRotation:
    def test_adds_a_key_and_keeps_the_old_one(self, data_dir: Path) -> None:
        before = kept(data_dir)
        ring = keyfile.rotate(data_dir, "ticket", settle_s=0)
        after = kept(data_dir)
        assert (ring.current, sorted(ring.keys), ring.waiting) == (2, [1, 2], None)
        assert after["ticket_key_id"] == 2
        assert after["ticket_keys"]["1"] == before["ticket_keys"]["1"] != after["ticket_keys"]["2"]
        assert {name: after[name] for name in ("receipt_keys", "session_secret")} == {
            name: before[name] for name in ("receipt_keys", "session_secret")
        }
        assert ring.made_at[2] <= ring.replaced_at[1]
        assert stat.S_IMODE((data_dir / "keys.json").stat().st_mode) == 0o600

    def test_lets_every_process_have_the_key_before_it_seals(self, data_dir: Path) -> None:
        with ThreadPoolExecutor(1) as pool:
            rotating = pool.submit(keyfile.rotate, data_dir, "ticket", 0.5)
            while len(kept(data_dir)["ticket_keys"]) == 1:
                pass
            ring = ring_in(kept(data_dir), "ticket")
            assert (ring.current, ring.waiting) == (1, 2)
            assert rotating.result(10).current == 2
        assert keyfile.SETTLE_S >= 2 * keyfile.WATCH_S

    def test_two_at_once_end_with_one_new_key(self, data_dir: Path) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: keyfile.rotate(data_dir, "ticket", settle_s=0.3), range(4)))
        ring = ring_in(kept(data_dir), "ticket")
        assert (ring.current, sorted(ring.keys)) == (2, [1, 2])

    def test_of_both_kinds_at_once_loses_neither(self, data_dir: Path) -> None:
        with ThreadPoolExecutor(2) as pool:
            for kind in ("ticket", "receipt"):
                for _ in range(5):
                    pool.submit(keyfile.rotate, data_dir, kind, 0).result(10)
        assert [ring_in(kept(data_dir), kind).current for kind in ("ticket", "receipt")] == [6, 6]

    def test_that_was_cut_off_is_taken_up(self, data_dir: Path) -> None:
        keyfile.change(data_dir, "ticket", lambda ring: ring.with_new(NOW))
        ring = keyfile.rotate(data_dir, "ticket", settle_s=0)
        assert (ring.current, sorted(ring.keys)) == (2, [1, 2])

    def test_ends_with_the_ids(self, data_dir: Path) -> None:
        full = {str(key_id): "11" * 32 for key_id in range(256)}
        keyfile.write_private(data_dir / "keys.json", json.dumps({"ticket_keys": full, "ticket_key_id": 255}))
        with pytest.raises(Refused, match="end at 255"):
            keyfile.rotate(data_dir, "ticket", settle_s=0)

    def test_without_keys_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(Misconfigured, match="no keys in"):
            keyfile.rotate(tmp_path, "ticket", settle_s=0)


class TestRetiring:
    def test_takes_an_old_ticket_key_away(self, data_dir: Path) -> None:
        keyfile.rotate(data_dir, "ticket", settle_s=0)
        ring = keyfile.change(data_dir, "ticket", lambda ring: ring.without(1))
        assert sorted(ring.keys) == [2]
        assert "1" not in kept(data_dir)["key_times"]["ticket"]

    def test_is_refused_for_an_instant_key(self, data_dir: Path) -> None:
        keyfile.rotate(data_dir, "instant", settle_s=0)
        with pytest.raises(KeyInUse, match="never retired"):
            keyfile.change(data_dir, "instant", lambda ring: ring.without(1))

    def test_is_refused_for_the_current_key_and_an_unknown_one(self, data_dir: Path) -> None:
        with pytest.raises(KeyInUse, match="current"):
            keyfile.change(data_dir, "ticket", lambda ring: ring.without(1))
        with pytest.raises(Refused, match="no ticket key 7"):
            keyfile.change(data_dir, "ticket", lambda ring: ring.without(7))

    def test_is_refused_for_every_receipt_key(self, data_dir: Path) -> None:
        keyfile.rotate(data_dir, "receipt", settle_s=0)
        with pytest.raises(KeyInUse, match="verify for ever"):
            keyfile.change(data_dir, "receipt", lambda ring: ring.without(1))


async def test_a_running_process_takes_up_what_changed_and_keeps_what_it_has_when_it_cannot(data_dir: Path) -> None:
    (data_dir / "dev.json").write_text('{"redis_url": "redis://x", "postgres_url": "postgresql://x"}')
    seen: list[int] = []
    stop = asyncio.Event()
    watching = asyncio.create_task(
        keyfile.watch(data_dir, stop, lambda: seen.append(load_settings(data_dir).ticket_keyring.current))
    )

    async def seen_is(wanted: list[int]) -> None:
        async with asyncio.timeout(10):
            while seen != wanted:  # noqa: ASYNC110 (a list tells nobody that it grew)
                await asyncio.sleep(0.01)

    await seen_is([1])
    keyfile.rotate(data_dir, "ticket", settle_s=0)
    await seen_is([1, 2])
    good = (data_dir / "keys.json").read_text()
    keyfile.write_private(data_dir / "keys.json", "{")
    await asyncio.sleep(keyfile.WATCH_S * 1.5)
    assert not watching.done()
    keyfile.write_private(data_dir / "keys.json", good)
    await seen_is([1, 2, 2])
    stop.set()
    await watching
