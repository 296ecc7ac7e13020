"""Every setting, read once at the edge and passed down.

A setting comes from an environment variable `FLASHCLAIM_<NAME>`, else from the TOML file named by `FLASHCLAIM_CONFIG`,
else, with a data directory, from what `flashclaim dev` keeps there. An unknown or contradictory setting stops the start
with one sentence. Secrets never show in logs or in `repr`.
"""

import json
import os
import secrets
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from engine.bounds import OUTBOX_BYTES_MAX, PARTITIONS_MAX, RATE_MAX
from engine.claims.keyring import Keyring
from engine.errors import Misconfigured

DEV_FILE = "dev.json"
KEYS_FILE = "keys.json"
_ENV_PREFIX = "FLASHCLAIM_"


def _decoded(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


Keys = Annotated[dict[int, SecretStr], BeforeValidator(_decoded)]


class Settings(BaseSettings):
    """The settings of one process; see docs/reference/settings.md for what each one is for."""

    model_config = SettingsConfigDict(env_prefix=_ENV_PREFIX, frozen=True, extra="forbid")

    redis_url: str
    postgres_url: str
    partitions: int = Field(1, ge=1, le=PARTITIONS_MAX)
    durability: Literal["disk", "replica", "memory"] = "disk"

    ticket_keys: Keys  # key id → secret, hexadecimal
    ticket_key_id: int = 1
    ticket_ttl_s: int = Field(1_800, ge=1)
    receipt_keys: Keys
    receipt_key_id: int = 1

    outbox_bytes_max: int = Field(OUTBOX_BYTES_MAX, ge=1_000_000)  # past it claims are shed until the ledger catches up

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

    @property
    def ticket_keyring(self) -> Keyring:
        return _keyring("ticket", self.ticket_key_id, self.ticket_keys)

    @property
    def receipt_keyring(self) -> Keyring:
        return _keyring("receipt", self.receipt_key_id, self.receipt_keys)


def _keyring(name: str, current: int, keys: dict[int, SecretStr]) -> Keyring:
    try:
        return Keyring(current, {key_id: bytes.fromhex(key.get_secret_value()) for key_id, key in keys.items()})
    except ValueError:
        raise Misconfigured(f"{name}_keys: a key is not hexadecimal") from None


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
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}" for fault in error.errors()]
        raise Misconfigured("; ".join(faults) + _advice(data_dir)) from None
    _ = settings.ticket_keyring, settings.receipt_keyring
    return settings


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
    keys = data_dir / KEYS_FILE
    if keys.exists():
        given |= json.loads(keys.read_text())
    return given


def ensure_keys(data_dir: Path) -> None:
    """Make the secrets of a local instance once; they lie in `keys.json`, readable by the owner alone."""
    path = data_dir / KEYS_FILE
    if path.exists():
        return
    made = {
        "ticket_keys": {"1": secrets.token_hex(32)},
        "receipt_keys": {"1": secrets.token_hex(32)},
        "session_secret": secrets.token_hex(32),
    }
    data_dir.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(made, file)
