"""Calls the public API for commands; errors keep the API's code and sentence."""

import json
import secrets
import time
from pathlib import Path
from typing import Any

import httpx

from cli.options import found_data_dir
from engine.errors import FlashclaimError, Invalid, Misconfigured, Refused, Unavailable

TIMEOUT_S = 30.0
RETRY_PAUSES_S = (0.5, 1.5)


class ApiRefused(Refused):
    code = "api-refused"


class ApiInvalid(Invalid):
    code = "api-invalid"


class ApiUnavailable(Unavailable):
    code = "api-unavailable"


class Client:
    """The API as one operator: by `--url` and `--token`, else by the instance in the data directory."""

    def __init__(self, data: Path | None, url: str | None, token: str | None) -> None:
        found = found_data_dir(data)
        known = _dev_file(found) if found is not None else {}
        self.url = url or known.get("url")
        self._token = token or known.get("operator_token")
        if self.url is None:
            raise Misconfigured("no instance is named: start `flashclaim dev`, or give --data, or --url and --token")

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """The decoded answer; raises an error of the class that the answer's status stands for.

        What is not available is tried again, under one idempotency key, so that an act whose answer was lost is not
        done twice.
        """
        sent = {"Idempotency-Key": secrets.token_hex(16), **(headers or {})}
        for pause_s in RETRY_PAUSES_S:
            try:
                return self._ask(method, path, body, sent)
            except ApiUnavailable:
                time.sleep(pause_s)
        return self._ask(method, path, body, sent)

    def pages(self, path: str, name: str, key: str) -> list[dict[str, Any]]:
        """All rows of a list that comes in pages; `key` is what the next page begins behind."""
        found: list[dict[str, Any]] = []
        page = self.call("GET", path)
        while True:
            found += page[name]
            if page["next"] is None:
                return found
            page = self.call("GET", f"{path}?after={found[-1][key]}")

    def _ask(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        if self._token:
            headers = {"Authorization": f"Bearer {self._token}", **headers}
        try:
            answer = httpx.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=TIMEOUT_S)
        except httpx.HTTPError as error:
            raise ApiUnavailable(f"{self.url} does not answer ({error}): is it running?") from None
        try:
            decoded = answer.json()
        except ValueError:
            raise ApiUnavailable(f"{self.url} answered {answer.status_code} with no JSON") from None
        if answer.is_success:
            return decoded
        raise _error(answer.status_code, decoded)


def _error(status: int, problem: dict[str, Any]) -> FlashclaimError:
    detail = f"{problem.get('detail', 'refused')} [{problem.get('code', status)}]"
    if status in (404, 409, 412, 403):
        return ApiRefused(detail)
    return ApiUnavailable(detail) if status >= 500 or status == 429 else ApiInvalid(detail)


def _dev_file(data_dir: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((data_dir / "dev.json").read_text())
        return found
    except FileNotFoundError:
        raise Misconfigured(f"no instance runs in {data_dir}: start `flashclaim dev --data {data_dir}`") from None
    except ValueError:
        raise Misconfigured(f"{data_dir / 'dev.json'} is damaged: start `flashclaim dev` again") from None
