"""The promise: an unknown or contradictory setting stops the start with a sentence, and no secret is ever shown."""

import traceback
from pathlib import Path

import pytest

from engine.claims.durability import Durability
from engine.errors import Misconfigured
from engine.runtime.connections import open_ledger, open_redis
from engine.runtime.doctor import durability_findings
from engine.runtime.keyfile import ensure_keys
from engine.runtime.settings import Settings, load_settings


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    ensure_keys(tmp_path)
    (tmp_path / "dev.json").write_text('{"redis_url": "redis://x", "postgres_url": "postgresql://x"}')
    return tmp_path


def test_a_data_directory_holds_what_is_needed(data_dir: Path) -> None:
    settings = load_settings(data_dir)
    assert settings.redis_url == "redis://x"
    assert settings.ticket_keyring.keys != settings.receipt_keyring.keys
    before = load_settings(data_dir).ticket_keyring
    ensure_keys(data_dir)
    assert load_settings(data_dir).ticket_keyring == before


def test_secrets_are_not_shown(data_dir: Path) -> None:
    settings = load_settings(data_dir)
    secret = settings.ticket_keys[1].get_secret_value()
    assert secret not in repr(settings)
    assert secret not in str(settings)


PASSWORD = "p4ssw0rd"
KEY = "3f" * 32


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TICKET_KEYS", f'{{"{KEY}": "1"}}'),
        ("TICKET_KEYS", f'{{"1": ["{KEY}"]}}'),
        ("TICKET_KEYS", f'{{"1": "{KEY}"'),
        ("TICKET_KEYS", f'{{"1": "{KEY}x"}}'),
        ("TICKET_KEYS", f'{{"1": "{KEY * 3}"}}'),
        ("TICKET_KEYS", KEY),
        ("RECEIPT_KEYS", f'"{KEY}"'),
        ("TICKET_KEY_ID", KEY),
        ("SESSION_SECRET", PASSWORD),
        ("SESSION_JWKS_URL", f"https://u:{PASSWORD}@identity.example"),
        ("PARTITIONS", PASSWORD),
        ("ACCESS_LOG", PASSWORD),
        ("CORS_ORIGINS", PASSWORD),
    ],
)
def test_a_wrong_setting_is_named_and_not_repeated(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """People put the right secret into the wrong place: the sentence goes to logs and chats."""
    monkeypatch.setenv(f"FLASHCLAIM_{name}", value)
    with pytest.raises(Misconfigured) as refused:
        load_settings(data_dir)
    shown = "".join(traceback.format_exception(refused.value)) + repr(refused.value.facts)
    assert not {part for part in (KEY, PASSWORD) if part in shown}, shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_url", f"redis://:{PASSWORD}/x@store:6379/0"),
        ("redis_url", f"rediss//:{PASSWORD}@store:6379/0"),
        ("redis_url", f"redis://:{PASSWORD}@store:port/0"),
        ("postgres_url", f"postgresql://u:x@ledger:{PASSWORD}/flashclaim"),
        ("postgres_url", f"postgresql//u:{PASSWORD}@ledger/flashclaim"),
    ],
)
def test_a_store_that_cannot_be_opened_is_named_without_its_password(name: str, value: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        open_redis(value) if name == "redis_url" else open_ledger(value)
    assert name in refused.value.detail
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))


def test_a_password_is_not_shown_by_what_holds_it(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHCLAIM_REDIS_URL", f"redis://:{PASSWORD}@store:6379/0")
    monkeypatch.setenv("FLASHCLAIM_POSTGRES_URL", f"postgresql://u:{PASSWORD}@ledger/flashclaim")
    settings = load_settings(data_dir)
    assert PASSWORD not in repr(settings) + repr(open_ledger(settings.postgres_url))
    assert PASSWORD not in repr(open_redis(settings.redis_url))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("REDIS_ULR", "x", "unknown settings: redis_ulr"),
        ("PARTITIONS", "0", "partitions"),
        ("PARTITIONS", "many", "partitions"),
        ("DURABILITY", "none", "durability"),
        ("TICKET_KEYS", '{"1": "not hexadecimal"}', "hexadecimal"),
        ("TICKET_KEYS", '{"2": "' + "11" * 32 + '"}', "key id 1"),
        ("TICKET_KEYS", '{"1": "11"}', "1 bytes"),
        ("TICKET_KEYS", "{", "ticket_keys"),
        ("PERSON_KEY", "short", "person_key is not hexadecimal"),
        ("PERSON_KEY", "11" * 31, "person_key is not hexadecimal"),
        ("TIME_ZONE", "Dongguan", "time_zone is no zone"),
        ("TIME_ZONE", "../etc/passwd", "time_zone is no zone"),
        ("TOWNS_FILE", "/nowhere.toml", "/nowhere.toml"),
        ("SESSION_JWKS_URL", "https://example.org", "set one of"),
        ("SESSION_SECRET", "short", "shorter than 32"),
        ("CONFIG", "/nowhere.toml", "/nowhere.toml"),
        ("RATES_REDIS_URL", "redis://x", "name another store"),
        ("MEMBER_CLAIMS_PER_SECOND", "-1", "member_claims_per_second"),
        ("ADDRESS_CLAIMS_BURST", "1000001", "address_claims_burst"),
        ("TOWN_OUTLINES_FILE", "/nowhere.geojson", "/nowhere.geojson"),
    ],
)
def test_a_wrong_setting_stops_the_start(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"FLASHCLAIM_{name}", value)
    with pytest.raises(Misconfigured) as refused:
        load_settings(data_dir)
    assert words in refused.value.detail


def test_a_missing_instance_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="Is `flashclaim dev --data"):
        load_settings(tmp_path)
    (tmp_path / "dev.json").write_text("{")
    with pytest.raises(Misconfigured, match="is damaged"):
        load_settings(tmp_path)


def test_a_file_and_the_environment_name_settings_too(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "more.toml"
    file.write_text("partitions = 4\nticket_ttl_s = 60\n")
    monkeypatch.setenv("FLASHCLAIM_CONFIG", str(file))
    monkeypatch.setenv("FLASHCLAIM_TICKET_TTL_S", "90")
    settings = load_settings(data_dir)
    assert (settings.partitions, settings.ticket_ttl_s) == (4, 90)
    file.write_text("nonsense = 1\n")
    with pytest.raises(Misconfigured, match="unknown settings: nonsense"):
        load_settings(data_dir)


@pytest.mark.parametrize(
    ("name", "value"), [("appendonly", "no"), ("appendfsync", "everysec"), ("maxmemory-policy", "allkeys-lru")]
)
def test_a_store_that_breaks_its_promise_is_an_error(name: str, value: str) -> None:
    safe = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    assert {finding.level for finding in durability_findings(safe, Durability(), "master")} == {"ok"}
    (bad,) = [f for f in durability_findings({**safe, name: value}, Durability(), "master") if f.level == "error"]
    assert name in bad.what
    assert f"set `{name} {safe[name]}`" in bad.advice


def test_settings_are_frozen(data_dir: Path) -> None:
    settings: Settings = load_settings(data_dir)
    with pytest.raises(ValueError, match="frozen"):
        settings.partitions = 2  # type: ignore[misc]
