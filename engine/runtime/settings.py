"""Every setting, read once at the edge and passed down.

A setting comes from an environment variable `FLASHCLAIM_<NAME>`, else from the TOML file named by `FLASHCLAIM_CONFIG`,
else, with a data directory, from what `flashclaim dev` keeps there. An unknown or contradictory setting stops the start
with one sentence. Secrets never show in logs or in `repr`.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from engine import towns
from engine.bounds import OUTBOX_BYTES_MAX, PARTITIONS_MAX, RATE_MAX
from engine.claims.durability import Durability, Level
from engine.claims.keyring import Keyring
from engine.errors import Misconfigured
from engine.runtime import keyfile
from engine.towns import Towns
from engine.towns.places import Places, load_outlines

DEV_FILE = "dev.json"
_HEXADECIMAL_KEY = re.compile(r"(?:[0-9a-fA-F]{2}){32,64}")
KEY_SETTINGS = tuple(name for kind in keyfile.KINDS for name in (f"{kind}_keys", f"{kind}_key_id"))
_ENV_PREFIX = "FLASHCLAIM_"


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("write it as JSON") from None  # the parser's own error carries the secrets


Keys = Annotated[dict[int, SecretStr], BeforeValidator(_decoded)]


class Settings(BaseSettings):
    """The settings of one process; see docs/reference/settings.md for what each one is for."""

    model_config = SettingsConfigDict(env_prefix=_ENV_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    redis_url: str = Field(repr=False)  # the two may hold a password
    postgres_url: str = Field(repr=False)
    partitions: int = Field(
        1,
        ge=1,
        le=PARTITIONS_MAX,
        description="Shares of members, fixed when the system is set up. With more than 1, promise 9 is not kept:"
        " a partition says sold out while another has stock, for stock is not moved between them yet.",
    )
    durability: Level = "disk"
    durability_checked: bool = True  # false: the operator answers for the store's settings
    replicas_min: int = Field(1, ge=1, le=16)  # at the level `replica`

    ticket_keys: Keys  # key id → secret, hexadecimal
    ticket_key_id: int = 1
    ticket_ttl_s: int = Field(1_800, ge=1)
    receipt_keys: Keys
    receipt_key_id: int = 1
    instant_keys: Keys = {}  # without one an instant win cannot be launched
    instant_key_id: int = 1

    outbox_bytes_max: int = Field(OUTBOX_BYTES_MAX, ge=1_000_000)  # past it claims are shed until the ledger catches up

    # Hexadecimal: turns ID numbers into subjects. Never change it: the numbers, to do it anew, are kept nowhere.
    person_key: SecretStr | None = None

    session_secret: SecretStr | None = None  # HS256: the dev identity
    session_jwks_url: str | None = None  # production: the identity provider's public keys
    session_issuer: str | None = None
    session_audience: str | None = None

    # Rates: 0 a second switches one off, a burst of 0 is one second's worth.
    member_claims_per_second: int = Field(10, ge=0, le=RATE_MAX)
    member_claims_burst: int = Field(0, ge=0, le=RATE_MAX)
    address_claims_per_second: int = Field(0, ge=0, le=RATE_MAX)  # off: thousands of phones share a carrier's address
    address_claims_burst: int = Field(0, ge=0, le=RATE_MAX)
    client_claims_per_second: int = Field(0, ge=0, le=RATE_MAX)
    client_claims_burst: int = Field(0, ge=0, le=RATE_MAX)
    invalid_tickets_per_second: int = Field(50, ge=0, le=RATE_MAX)  # of one address
    invalid_tickets_burst: int = Field(500, ge=0, le=RATE_MAX)
    rates_redis_url: str | None = None  # a second, volatile store: rates are then over all processes
    deny_file: Path | None = None
    time_zone: str = "Asia/Shanghai"  # the organisation's: a day begins by it
    towns_file: Path | None = None  # another city's towns, as in engine/towns/dongguan.toml
    town_outlines_file: Path | None = None  # GeoJSON; without it a place is in the town with the nearest centre
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: str = "127.0.0.1"
    root_path: str = ""
    access_log: bool = False  # a line for each answer: at a rush's rate that is 10 MB a second
    log_format: Literal["json", "console"] = "json"

    @model_validator(mode="after")
    def _has_one_identity(self) -> "Settings":
        if (self.session_secret is None) == (self.session_jwks_url is None):
            raise ValueError("set one of session_jwks_url (production) and session_secret (local use)")
        if self.session_secret is not None and len(self.session_secret.get_secret_value()) < 32:
            raise ValueError("session_secret is shorter than 32 characters")
        return self

    @model_validator(mode="after")
    def _counts_elsewhere(self) -> "Settings":
        if self.rates_redis_url is not None and self.rates_redis_url == self.redis_url:
            raise ValueError("rates_redis_url is redis_url: each count would be written to disk; name another store")
        return self

    @model_validator(mode="after")
    def _hides_persons(self) -> "Settings":
        key = "" if self.person_key is None else self.person_key.get_secret_value()
        if self.person_key is not None and _HEXADECIMAL_KEY.fullmatch(key) is None:
            raise ValueError("person_key is not hexadecimal, of 64 digits or more")
        return self

    @model_validator(mode="after")
    def _is_somewhere(self) -> "Settings":
        try:
            _ = self.zone
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("time_zone is no zone that is known here: write it like Asia/Shanghai") from None
        return self

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def towns(self) -> Towns:
        return towns.load(self.towns_file)

    @property
    def persons(self) -> bytes | None:
        """The key that turns ID numbers into subjects; None where none is set."""
        return None if self.person_key is None else bytes.fromhex(self.person_key.get_secret_value())

    @property
    def places(self) -> Places:
        outlines = load_outlines(self.town_outlines_file, self.towns) if self.town_outlines_file else ()
        return Places(self.towns, outlines)

    @property
    def promised(self) -> Durability:
        return Durability(self.durability, self.replicas_min, self.durability_checked)

    @property
    def ticket_keyring(self) -> Keyring:
        keys = {key_id: key.get_secret_value() for key_id, key in self.ticket_keys.items()}
        return keyring_of("ticket", self.ticket_key_id, keys)

    @property
    def receipt_keyring(self) -> Keyring:
        keys = {key_id: key.get_secret_value() for key_id, key in self.receipt_keys.items()}
        return keyring_of("receipt", self.receipt_key_id, keys)

    @property
    def instant_keyring(self) -> Keyring | None:
        keys = {key_id: key.get_secret_value() for key_id, key in self.instant_keys.items()}
        return keyring_of("instant", self.instant_key_id, keys) if keys else None


def keyring_of(kind: str, current: int, keys: Mapping[int, str]) -> Keyring:
    """The keyring of hexadecimal keys; raises `Misconfigured`."""
    try:
        return Keyring(current, {key_id: bytes.fromhex(key) for key_id, key in keys.items()})
    except ValueError:
        raise Misconfigured(f"{kind}_keys: a key is not hexadecimal") from None


def load_settings(data_dir: Path | None = None, **more: str) -> Settings:
    """The settings of this process; with a data directory those of the `flashclaim dev` instance in it.

    `more` holds what the caller knows better than any file.

    Raises `Misconfigured` with a sentence for each setting that is missing, unknown or contradictory.
    """
    given = {**_from_data_dir(data_dir), **_from_file(), **more}
    from_environment = {
        name.removeprefix(_ENV_PREFIX).lower() for name in os.environ if name.startswith(_ENV_PREFIX)
    } - {"config", "data", "url", "token"}
    unknown = sorted((given.keys() | from_environment) - Settings.model_fields.keys())
    if unknown:
        raise Misconfigured(f"unknown settings: {', '.join(unknown)}; known are {', '.join(Settings.model_fields)}")
    try:
        settings = Settings(**{name: value for name, value in given.items() if name not in from_environment})
    except SettingsError as error:
        raise Misconfigured(f"{error}: write it as JSON") from None
    except ValidationError as error:
        faults = [_told(fault) for fault in error.errors(include_input=False)]
        raise Misconfigured("; ".join(faults) + _advice(data_dir)) from None
    _ = settings.ticket_keyring, settings.receipt_keyring, settings.instant_keyring, settings.places
    return settings


def keys_given() -> dict[str, Any]:
    """The keys that the environment or the settings file names; they go before those of a data directory."""
    named = _from_file()
    given = {name: named[name] for name in KEY_SETTINGS if name in named}
    for name in KEY_SETTINGS:
        value = os.environ.get(_ENV_PREFIX + name.upper())
        if value is not None:
            try:
                given[name] = _decoded(value)
            except ValueError as error:
                raise Misconfigured(f"{name}: {error}") from None
    return given


def _told(fault: ErrorDetails) -> str:
    """A fault's place and sentence. Below the setting's name the place may be a key that was written as a key id."""
    place = fault["loc"][0] if fault["loc"] else "settings"
    return f"{place}: {fault['msg']}"


def _advice(data_dir: Path | None) -> str:
    if data_dir is not None:
        return f". Is `flashclaim dev --data {data_dir}` running?"
    return ". Set FLASHCLAIM_… variables, or name the data directory of a running `flashclaim dev` by --data"


def _from_file() -> dict[str, Any]:
    path = os.environ.get(_ENV_PREFIX + "CONFIG")
    if path is None:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path}: {error}") from None


def _from_data_dir(data_dir: Path | None) -> dict[str, Any]:
    if data_dir is None:
        return {}
    given: dict[str, Any] = {}
    try:
        dev = json.loads((data_dir / DEV_FILE).read_text())
        given |= {name: dev[name] for name in ("redis_url", "postgres_url")}
    except FileNotFoundError:
        pass
    except (ValueError, KeyError) as error:
        raise Misconfigured(f"{data_dir / DEV_FILE} is damaged ({error}): start `flashclaim dev` again") from None
    return given | keyfile.settings_in(data_dir)
