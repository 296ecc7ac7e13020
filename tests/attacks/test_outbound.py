"""The promise: nobody makes us call or point anywhere: no redirect, no link from a Host, two outbound calls in all.

They are to the identity provider's keys (tests/attacks/test_sessions.py::TestProvider) and, by an operator's command,
to a draw's beacon (tests/engine/draws/test_beacon.py).
"""

import ast
from itertools import product
from pathlib import Path

from tests.api.conftest import Api
from tests.attacks.test_access import KNOWN, RULES, ask
from tests.contract.conftest import Start
from tests.contract.front import Front, claim_request, told
from tests.contract.line import request

ROOT = Path(__file__).parents[2]
EVIL = "evil.test"
HOSTS = [
    EVIL,
    f"{EVIL}:80",
    f"flashclaim.test@{EVIL}",
    "[",
    "[::1",
    "]",
    "a:b:c",
    "localhost:99999",
    "x/../..",
    f"{EVIL}/?",
    "é",
]
FORWARDED = {
    "X-Forwarded-Host": EVIL,
    "X-Forwarded-Proto": "javascript",
    "X-Forwarded-Prefix": f"//{EVIL}",
    "X-Forwarded-Port": "1",
    "X-Original-URL": "/v1/drops/trial/close",
    "X-Rewrite-URL": "/v1/drops/trial/close",
    "X-HTTP-Method-Override": "DELETE",
    "X-HTTP-Method": "PUT",
    "X-Method-Override": "PATCH",
    "Forwarded": f"host={EVIL};proto=javascript;for=9.9.9.9",
    "Base-Url": f"http://{EVIL}",
    "Referer": f"http://{EVIL}/",
    "Origin": f"http://{EVIL}",
    "True-Client-IP": "9.9.9.9",
}
OUTBOUND = {"httpx", "requests", "urllib", "urllib3", "aiohttp", "http", "socket", "smtplib", "ftplib", "telnetlib"}


def test_two_modules_call_out() -> None:
    """The stores' clients aside; the command line calls the API that its user names, the doctor its own parts."""
    found = set()
    for package in ("api", "engine", "lua"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if OUTBOUND & {name.partition(".")[0] for name in names}:
                    found.add(str(path.relative_to(ROOT)))
    harmless = {
        "api/problems.py",  # http.HTTPStatus
        "engine/drops/draw_rules.py",  # urllib.parse
        "engine/runtime/servers.py",  # a free port on this machine
    }
    assert found - harmless == {"engine/members/session.py", "engine/draws/beacon.py"}


class TestRedirects:
    async def test_no_route_answers_with_a_place(self, api: Api) -> None:
        await api.launched()
        for headers in (api.bearer("boss", "operator"), {}):
            for rule in RULES:
                if rule.endswith("/live"):
                    continue
                for host in (EVIL, "flashclaim.test"):
                    for more in ("", "/", "//", "?next=//evil.test", "?redirect_uri=http://evil.test&url=//evil.test"):
                        answer = await ask(api, f"{rule}{more}", KNOWN, headers | FORWARDED | {"Host": host})
                        assert not 300 <= answer.status_code < 400, (rule, more)
                        assert "location" not in answer.headers
                        assert "refresh" not in answer.headers

    async def test_other_spellings_of_a_place_are_no_redirect_either(self, api: Api) -> None:
        for path in (
            "//evil.test/",
            "/\\evil.test",
            "/%2f%2fevil.test",
            "/docs/",
            "/docs/static",
            "/v1/drops/",
            "/.//evil.test",
        ):
            answer = await api.client.get(f"http://flashclaim.test{path}", headers={"Host": EVIL})
            assert not 300 <= answer.status_code < 400, path
            assert "location" not in answer.headers


class TestHosts:
    async def test_a_host_changes_nothing_and_comes_back_nowhere(self, api: Api) -> None:
        await api.launched()
        rules = ("GET /v1/drops/{drop_id}", "GET /openapi.json", "GET /docs", "GET /nothing", "POST /healthz")
        for host, rule in product(HOSTS, rules):
            headers = [("Host", host.encode()), *FORWARDED.items()]
            answer = await ask(api, rule, KNOWN, dict(headers))  # type: ignore[arg-type]
            plain = await ask(api, rule, KNOWN, {})
            assert (answer.status_code, answer.content) == (plain.status_code, plain.content)
            assert EVIL not in answer.text + str(answer.headers)

    async def test_neither_on_the_gate(self, front: Front) -> None:
        await front.launched()
        ticket = await front.ticket()
        more = [(name, value) for name, value in FORWARDED.items() if not name.startswith("X-Forwarded")]
        for number, host in enumerate(HOSTS):
            data = claim_request(ticket, headers=more).replace(b"flashclaim.test", host.encode())
            told(await front.ask(data), 200 if number else 201)
        data = claim_request(ticket, headers=[("Host", EVIL)])
        assert (await front.ask(data)).status in (200, 400)
        assert (await front.ask(request("GET", "/nothing").replace(b"flashclaim.test", b"["), "GET")).status == 404
        assert await front.taken() == 1

    async def test_a_method_is_what_the_first_line_says(self, api: Api) -> None:
        await api.launched()
        headers = api.bearer("boss", "operator") | FORWARDED
        for query in ("", "?_method=DELETE", "?method=PATCH"):
            answer = await api.client.get(f"/v1/drops/trial{query}", headers=headers)
            assert answer.status_code == 200
            answer = await api.client.post(f"/v1/drops/trial{query}", headers=headers, json={"_method": "PATCH"})
            assert answer.status_code == 405
        for method in ("TRACE", "CONNECT", "PROPFIND", "TRACK", "DEBUG"):
            assert (await api.client.request(method, "/v1/drops/trial", headers=headers)).status_code == 405
        assert (await api.client.get("/v1/drops/trial")).json()["status"] == "launched"


async def test_an_address_that_an_untrusted_peer_writes_counts_for_nothing(start: Start) -> None:
    """A new X-Forwarded-For for each request does not get round the rate; neither do other names of it."""
    front = await start(address_claims_per_second=2, trusted_proxies="10.0.0.1")
    await front.launched()
    ticket = await front.ticket()
    answers = []
    for number in range(12):
        address = f"9.9.9.{number}"
        names = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP")
        answers.append(await front.ask(claim_request(ticket, headers=[(name, address) for name in names])))
    assert list(front.app.state.services.control.claims.addresses._young) == ["127.0.0.1"]
    assert [answer.code for answer in answers].count("slow-down") >= 4
