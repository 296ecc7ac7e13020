"""The promise: no text of anybody becomes a key, a script's argument, SQL, a line of a log or a formula of a sheet.

Ids are a few ASCII signs and are checked before they go anywhere; everything else travels as a parameter.
"""

import asyncio
import csv
import io
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import insert, text

from cli import audit as cli_audit
from engine.claims import keys
from engine.ids import IdInvalid, is_name, member_id
from engine.ledger.schema import claims, metadata
from engine.members.model import Session
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.api.conftest import Api, problem
from tests.contract.conftest import Log, Start
from tests.contract.line import request
from tests.factories.drops import drop_json
from tests.factories.ledger import record_all

ROOT = Path(__file__).parents[2]
_AT = datetime(2026, 1, 1, tzinfo=UTC)
NO_IDS = [
    "", " ", "{1}", "a}{b", "{0}:drop:x", "trial:claims", "trial\n", "\ntrial", "tri\nal", "trial\r", "trial\0", "\0",
    "tri/al", "../trial", "..", ".", "trial ", "\ttrial", "TRIAL", "trıal", "тrial", "\uff54rial", "trіal",
    "tri\u200bal", "tri\u00adal", "trial\u202e", "ﬁ", "ß", "İ", "*", "?", "[a]", "fc:{0}:outbox", "-trial", "a" * 65,
    "é", "１", "٣", "trial.0", "a,b", "a:1", "a'b", 'a"b', "a\\b", "a;b", "%00", "a%2fb", "$ne", "a\x1b[2J", "\ud800",
]  # fmt: skip
MEMBERS_TOO = {"TRIAL", "trial.0", "a:1", "trial:claims"}  # a member's id is no part of a key: it may have these signs


class TestKeys:
    """A drop's id is a part of keys, and so is nothing else that a caller names."""

    @pytest.mark.parametrize("name", NO_IDS)
    def test_what_is_no_id_is_never_one(self, name: str) -> None:
        assert not is_name(name)
        if name not in MEMBERS_TOO:
            with pytest.raises(IdInvalid):
                member_id(name)

    async def test_no_route_takes_one(self, api: Api, stores: Stores) -> None:
        await api.launched()
        member, operator = api.bearer(), api.bearer("boss", "operator")
        ticket = await api.ticket()
        before = set(await stores.redis.keys("*"))
        for name in NO_IDS:
            spelled = quote(name.encode(errors="surrogatepass"), safe="")
            for path in ("ticket", "claims", "launch", "report", ""):
                method = "GET" if path in ("report", "") else "POST"
                headers = {"claims": {"Authorization": f"Ticket {ticket}"}, "ticket": member}.get(path, operator)
                answer = await api.client.request(method, f"/v1/drops/{spelled}/{path}".rstrip("/"), headers=headers)
                # "" and "." are other paths: the list of drops, which takes no such method or is an operator's.
                assert answer.status_code in ((200, 404, 405) if name in ("", ".", "..") else (404,)), (name, path)
            for wrong in (
                {"id": name},
                {"organisation": name},
                {"items": [{"id": name, "title": {"en": "a"}, "stock": 1}]},
            ):
                body = json.dumps(drop_json("fresh") | wrong).encode()
                headers = operator | {"Content-Type": "application/json"}
                answer = await api.client.post("/v1/drops", headers=headers, content=body)
                assert answer.status_code == 422, (name, answer.text)
        assert set(await stores.redis.keys("*")) == before

    def test_keys_of_different_drops_are_different_and_of_the_same_slot(self) -> None:
        names = ["a", "b", "claims", "a-claims", "drop", "outbox", "0"]
        made = [key(0, name) for name in names for key in (keys.drop, keys.claims)] + [keys.outbox(0)]
        assert len(set(made)) == len(made)
        assert {key[key.index("{") : key.index("}") + 1] for key in made} == {"{0}"}


class TestScripts:
    """Texts that look like what a script's arguments, fields or replies look like are texts."""

    MEMBERS = (
        "status",
        "epoch",
        "waves",
        "serial",
        "taken:1",
        "1:2:3",
        "9:0:99",
        "limit",
        "0",
        "KEYS",
        "nil",
        "m@1",
        "ARGV.1",
    )

    async def test_members_named_like_fields_and_replies_claim_like_others(self, api: Api, stores: Stores) -> None:
        await api.launched(stock=50)
        for member in self.MEMBERS:
            answer = await api.claim(await api.ticket(member))
            assert answer.status_code == 201, (member, answer.text)
            problem(await api.claim(await api.ticket(member)), 409, "limit-reached")
        state = await stores.redis.hgetall(keys.drop(0, "trial"))
        assert (state[b"status"], state[b"taken:1"], state[b"serial"]) == (
            b"launched",
            b"%d" % len(self.MEMBERS),
            b"13",
        )

    async def test_items_named_like_numbers_and_fields_are_counted_by_their_own(self, api: Api, stores: Stores) -> None:
        names = ["2", "1", "0", "taken", "status", "items", "3-2-1"]
        items = [{"id": name, "title": {"en": name}, "stock": number} for number, name in enumerate(names, start=1)]
        await api.launched(items=items, limit=9)
        for name in names:
            claim = await api.claim(await api.ticket(item=name))
            assert claim.json()["item"] == name
        found = (await api.operate("GET", "/v1/drops/trial/report")).json()["items"]
        assert [(item["id"], item["store"]["taken"], item["stock"]) for item in found] == [
            (name, 1, number) for number, name in enumerate(names, start=1)
        ]

    async def test_signs_between_parts_of_waves_are_in_no_id(self, api: Api) -> None:
        for name in ("box,1:1:999", "box:1", "1,2", "box\n9:1:999", "box 1"):
            drop = drop_json("fresh")
            for wrong in (
                {"items": [{"id": name, "title": {"en": "a"}, "stock": 1}]},
                {"waves": [{"at": drop["opens_at"], "stock": {name: 1}}]},
            ):
                problem(await api.operate("POST", "/v1/drops", drop | wrong), 422, "spec-invalid")

    async def test_a_title_and_a_reason_are_kept_as_they_are(self, api: Api, stores: Stores) -> None:
        odd = "'; return redis.call('FLUSHALL') -- ]] \\ \" {0} %s 加"
        await api.launched(title={"en": odd})
        assert (await api.client.get("/v1/drops/trial")).json()["title"]["en"] == odd
        claim = (await api.claim(await api.ticket())).json()["claim_id"]
        await record_all(stores)
        reason = odd + "\n\0\r\x1b[2J" + '","actor":"other"'
        released = await api.operate("POST", f"/v1/claims/{claim}/release?reason={quote(reason)}")
        assert released.status_code == 200
        entries = await stores.redis.xrange(keys.outbox(0))
        assert entries is not None
        fields: Any = entries[-1][1]
        told = json.loads(fields[b"reason"])
        assert told == {"actor": "boss", "reason": reason}
        await record_all(stores)
        async with stores.ledger.connect() as connection:
            assert (await connection.execute(text("select count(*) from dead_letters"))).scalar_one() == 0
            kept = (await connection.execute(text("select change from operator_actions where verb = 'release'"))).one()
            assert kept.change["reason"] == reason.replace("\0", "")


SQL = [
    "' or '1'='1", "'; drop table claims; --", "1; select pg_sleep(5)", "' union select null --", "\\'; --", "a'||'b",
    "$$; drop table drops; $$", "1)) or ((1=1", "' or pg_sleep(5)::text='", "%' or '%'='", "trial' -- ", ":id",
    "%(id)s", "$1",
]  # fmt: skip


# Where a path names what there is not, beside the attack.
NOTHING = {
    "drop_id": "nothing", "claim_id": "trial.0.999", "member_id": "m-9", "campaign_id": "nothing", "draw_id": "nothing",
    "organisation_id": "nothing", "name": "nothing", "number": "999", "job_id": "999",
}  # fmt: skip


async def test_no_path_and_no_query_is_sql(api: Api, stores: Stores) -> None:
    """Each parameter of the OpenAPI document, with what would show itself by its rows, its time or its damage."""
    await api.launched()
    assert (await api.claim(await api.ticket())).status_code == 201
    await record_all(stores)

    async def rows() -> dict[str, int]:
        async with stores.ledger.connect() as connection:
            tables = {name: text(f"select count(*) from {name}") for name in metadata.tables}
            return {name: int((await connection.execute(query)).scalar_one()) for name, query in tables.items()}

    before, since_s = await rows(), time.perf_counter()
    document = (await api.client.get("/openapi.json")).json()["paths"]
    tried = 0
    for path, methods in document.items():
        if path.endswith("/live"):
            continue
        for method, operation in methods.items():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "header" and parameter["name"] != "idempotency-key":
                    continue
                for attack in SQL:
                    tried += 1
                    spelled = quote(attack, safe="")
                    filled = path.replace(f"{{{parameter['name']}}}", spelled)
                    filled = filled.format_map(NOTHING)
                    query = f"?{parameter['name']}={spelled}" if parameter["in"] == "query" else ""
                    given = {"Idempotency-Key": attack.replace(" ", "/")} if parameter["in"] == "header" else {}
                    answer = await api.operate(method.upper(), filled + query, {}, **given)
                    assert answer.status_code in (401, 404, 415, 422, 428), (method, filled, query, answer.text)
    assert tried > 200
    assert await rows() == before
    assert time.perf_counter() - since_s < 30, "a pg_sleep(5) ran"


class TestLogs:
    HOSTILE = "/a\n{}\r\n2026-01-01 [error] forged \x1b[2J \x9b2J \x85 \u2028 \u2029 \0 end"

    @pytest.mark.parametrize("layout", ["json", "console"])
    def test_an_entry_is_one_line_whatever_it_holds(self, layout: str) -> None:
        program = (
            "import structlog, sys\n"
            "from engine.runtime.telemetry import configure_logs\n"
            f"configure_logs({layout!r})\n"
            "structlog.get_logger('access').info('answered', path=sys.stdin.read(), route=sys.argv[1])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, self.HOSTILE.replace("\0", "")],
            cwd=ROOT, input=self.HOSTILE, capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "\x1b[2J" not in done.stderr
        if layout == "json":
            assert json.loads(done.stderr)["path"].startswith("/a\n{}\r\n2026-01-01 [error] forged")

    async def test_a_path_and_an_id_from_outside_reach_the_log_as_values(self, start: Start, logs: Log) -> None:
        front = await start(access_log=True)
        logs.clear()
        hostile = [
            ("X-Request-ID", "a b"),
            ("X-Request-ID", "a\tb"),
            ("X-Request-ID", "x" * 65),
            ("X-Request-ID", "{}'"),
        ]
        for header in hostile:
            target = "/v1/drops/%0A%7B%22event%22%3A%22forged%22%7D%0D%0A"
            answer = await front.ask(request("GET", target, [header]), "GET")
            assert answer.headers["x-request-id"] != header[1]
        await asyncio.sleep(0.05)  # the app writes its line after its answer
        lines = [entry for entry in logs if entry["event"] == "answered"]
        assert len(lines) == len(hostile)
        assert all("forged" in entry["path"] and entry["request_id"].isascii() for entry in lines)
        assert all(set(entry["request_id"]) <= set("0123456789abcdef-") for entry in lines)

    async def test_an_answer_repeats_a_hostile_text_only_inside_json(self, api: Api) -> None:
        """Never in a header: there a line end would make another one."""
        for spelled in (
            "%0d%0aSet-Cookie:%20a=b",
            "%0aX-A:%20b",
            "%E5%98%8A%E5%98%8DX-A:b",
            "<script>alert(1)</script>",
        ):
            for path in (
                f"/v1/drops/{spelled}",
                f"/{spelled}",
                f"/v1/claims?after={spelled}",
                f"/v1/members/{spelled}",
            ):
                answer = await api.operate("GET", path)
                assert {"set-cookie", "x-a"} & answer.headers.keys() == set()
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["x-content-type-options"] == "nosniff"


class TestSheets:
    """What begins like a formula is no formula in a spreadsheet: OWASP, CSV injection."""

    FORMULAS = ("=cmd|' /C calc'!A1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://evil")')

    @pytest.mark.parametrize("cell", FORMULAS)
    def test_a_text_that_begins_like_a_formula_is_made_a_text(self, cell: str) -> None:
        assert cli_audit.harmless(cell) == "'" + cell

    @pytest.mark.parametrize("cell", ["m-1", "trial.0.1", "", "2025-06-14T10:00:00+00:00", 5, -5, "a=1", "1-1", "大朗"])
    def test_everything_else_stays_as_it_is(self, cell: object) -> None:
        assert cli_audit.harmless(cell) == cell

    @pytest.mark.parametrize("layout", ["csv", "jsonl"])
    async def test_the_export_holds_no_formula(
        self, api: Api, stores: Stores, settings: Settings, layout: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        """No id that we let in begins so; a row that came into the ledger another way may."""
        await api.launched(stock=50)
        await api.claim(await api.ticket())
        await record_all(stores)
        row = {"drop_id": "trial", "partition": 0, "item": 1, "quantity": 1, "subject": "x", "epoch": 1}
        async with stores.ledger.begin() as connection:
            for serial, formula in enumerate(self.FORMULAS, start=2):
                more = {"serial": serial, "member_id": formula, "nonce": b"%08d" % serial, "claimed_at": _AT}
                await connection.execute(insert(claims).values(row | more))
        for name in ("redis_url", "postgres_url"):
            monkeypatch.setenv(f"FLASHCLAIM_{name.upper()}", getattr(settings, name))
        for name in ("ticket", "receipt"):
            monkeypatch.setenv(f"FLASHCLAIM_{name.upper()}_KEYS", json.dumps({"1": "11" * 32}))
        monkeypatch.setenv("FLASHCLAIM_SESSION_SECRET", "a secret for the tests, long enough")
        await cli_audit._export("trial", layout, None)
        printed = capsys.readouterr().out
        if layout == "jsonl":
            assert [json.loads(line)["member_id"] for line in printed.splitlines()] == ["m-1", *self.FORMULAS]
            return
        found = [line[3] for line in csv.reader(io.StringIO(printed, newline=""))]
        assert found == ["member_id", "m-1", *(f"'{formula}" for formula in self.FORMULAS)]


async def test_a_session_with_such_an_id_is_none(api: Api) -> None:
    await api.launched()
    for name in sorted(set(NO_IDS) - MEMBERS_TOO - {"\ud800"}):  # which no token can spell
        for session in (Session(name, "m-1"), Session("m-1", name)):
            token = api.tokens.issue(session, 60) if name else "x.y.z"
            answer = await api.client.post("/v1/drops/trial/ticket", headers={"Authorization": f"Bearer {token}"})
            problem(answer, 401, "session-invalid")
