"""The promise: a session is what the configured key or provider signed for us, now; nothing in a token chooses the key.

What plain wrong payloads and keys do is in tests/engine/members/test_session.py.
"""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from engine.members.model import Session
from engine.members.session import JWKS_ASKED_AGAIN_S, IdentityUnavailable, SessionInvalid, SessionTokens
from engine.runtime.settings import Settings
from tests.api.conftest import Api, problem

EC, RSA = ECKey.generate_key("P-256", {"kid": "ec"}), RSAKey.generate_key(2048, {"kid": "rsa"})
HS256, ES256 = {"alg": "HS256"}, {"alg": "ES256", "kid": "ec"}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def payload(**more: Any) -> dict[str, Any]:
    return {"sub": "m-1", "exp": int(time.time()) + 60, "iss": "union", "aud": "flashclaim", **more}


def signed(head: dict[str, Any], body: object, key: OctKey | ECKey | RSAKey, **options: Any) -> str:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return jws.serialize_compact(head, text, key, **options)


class Provider:
    """An identity provider: serves its keys, and counts how often it is asked and for what."""

    url: str

    def __init__(self) -> None:
        self.ec, self.rsa = EC, RSA
        self.answer = self.of(json.dumps(KeySet([self.ec, self.rsa]).as_dict(private=False)).encode())
        self.asked: list[bytes] = []
        self.wait_s = 0.0

    @staticmethod
    def of(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
        return b"HTTP/1.1 %b\r\nConnection: close\r\n%bContent-Length: %d\r\n\r\n%b" % (status, more, len(body), body)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        await asyncio.sleep(self.wait_s)
        writer.write(self.answer)
        await writer.drain()
        writer.close()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    found = Provider()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    yield found
    server.close()
    await server.wait_closed()


@pytest.fixture
def public(settings: Settings, provider: Provider) -> SessionTokens:
    changes = {"session_secret": None, "session_jwks_url": provider.url}
    return SessionTokens(
        settings.model_copy(update={**changes, "session_issuer": "union", "session_audience": "flashclaim"})
    )


@pytest.fixture
def local(settings: Settings) -> SessionTokens:
    return SessionTokens(settings)


@pytest.fixture
def secret(settings: Settings) -> OctKey:
    assert settings.session_secret is not None
    return OctKey.import_key(settings.session_secret.get_secret_value())


async def refused(tokens: SessionTokens, *texts: str) -> None:
    for text in texts:
        with pytest.raises(SessionInvalid):
            await tokens.verify(text)


class TestAlgorithms:
    async def test_none_in_every_spelling_is_refused(self, public: SessionTokens, local: SessionTokens) -> None:
        body = b64(json.dumps(payload(role="operator")).encode())
        algorithms: list[object] = ["none", "None", "NONE", "nOnE", "", None, [], {}, 0, ["HS256"], "HS256 "]
        for alg in algorithms:
            head = b64(json.dumps({"alg": alg}).encode())
            for tokens in (public, local):
                await refused(tokens, f"{head}.{body}.", f"{head}.{body}", f"{head}.{body}.{b64(b'x' * 32)}")

    async def test_a_public_key_is_never_taken_for_a_secret(self, provider: Provider, public: SessionTokens) -> None:
        """Key confusion: HS256 with what anybody can download, in each form in which a library may keep it."""
        for key in (provider.rsa, provider.ec):
            forms = [key.as_pem(private=False), key.as_der(private=False), key.as_pem(private=False).strip()]
            forms += [
                json.dumps(key.as_dict(private=False)).encode(),
                str(key.as_dict(private=False).get("n")).encode(),
            ]
            for form in forms:
                for alg, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")):
                    head = b64(json.dumps({"alg": alg, "kid": key.kid}).encode())
                    signing = f"{head}.{b64(json.dumps(payload(role='operator')).encode())}"
                    # By hand: joserfc itself takes no public key for a secret, neither here nor there.
                    await refused(public, f"{signing}.{b64(hmac.digest(form, signing.encode(), digest))}")

    async def test_the_secret_signs_nothing_where_a_provider_is_named(
        self, public: SessionTokens, secret: OctKey
    ) -> None:
        await refused(public, signed(HS256, payload(), secret))

    async def test_other_algorithms_of_the_right_key_are_refused(
        self, provider: Provider, public: SessionTokens, local: SessionTokens, secret: OctKey
    ) -> None:
        for alg in ("PS256", "RS384", "RS512"):
            await refused(public, signed({"alg": alg, "kid": "rsa"}, payload(), provider.rsa, algorithms=[alg]))
        for alg in ("HS384", "HS512"):
            await refused(local, signed({"alg": alg}, payload(), secret, algorithms=[alg]))
        assert (await public.verify(signed({"alg": "RS256", "kid": "rsa"}, payload(), provider.rsa))).member_id == "m-1"


class TestHeads:
    @pytest.mark.parametrize(
        "kid", ["../../dev/null", "/dev/null", "ec' or '1'='1", "", "\0", "rsa", 5, None, ["ec"], {}]
    )
    async def test_a_kid_is_a_name_and_nothing_else(
        self, provider: Provider, public: SessionTokens, kid: object
    ) -> None:
        head = {"alg": "ES256", "kid": kid}
        await refused(public, resigned(head, payload(role="operator"), ECKey.generate_key("P-256")))

    async def test_a_token_brings_no_key_and_no_address_of_one(self, provider: Provider, public: SessionTokens) -> None:
        own = ECKey.generate_key("P-256", {"kid": "ec"})
        shown = own.as_dict(private=False)
        heads: list[dict[str, Any]] = [
            {"jwk": shown},
            {"jku": provider.url.replace("/keys", "/evil")},
            {"x5u": provider.url.replace("/keys", "/evil")},
            {"x5c": ["MIIB"]},
        ]
        for head in heads:
            await refused(public, signed({**ES256, **head}, payload(role="operator"), own))
        assert {asked.split(b" ")[1] for asked in provider.asked} == {b"/keys"}

    async def test_what_a_token_calls_critical_must_be_understood(
        self, provider: Provider, public: SessionTokens, local: SessionTokens, secret: OctKey
    ) -> None:
        critical: list[object] = [["exp"], ["b64"], ["x"], "x", 5, [[]]]
        for crit in critical:
            for head, key, tokens in ((ES256, provider.ec, public), (HS256, secret, local)):
                for more in ({}, {"x": 1, "exp": 1}, {"b64": False}):
                    await refused(tokens, resigned({**head, **more, "crit": crit}, payload(), key))

    async def test_heads_that_are_none_are_refused(self, public: SessionTokens, local: SessionTokens) -> None:
        body = b64(json.dumps(payload()).encode())
        heads = [
            b"[]",
            b"5",
            b"null",
            b'"HS256"',
            b"{}",
            b"\xff",
            b"{",
            b"[" * 2_500,
            b'{"a":' * 700 + b"1" + b"}" * 700,
        ]
        for head in heads:
            await refused(public, f"{b64(head)}.{body}.{b64(b'x' * 64)}")
            await refused(local, f"{b64(head)}.{body}.{b64(b'x' * 32)}")


def resigned(head: dict[str, Any], body: dict[str, Any], key: OctKey | ECKey) -> str:
    """A token that is rightly signed with a head that the library would not write."""
    signing = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(body).encode())}".encode()
    algorithm = jws.JWSRegistry.algorithms[head["alg"]]
    return f"{signing.decode()}.{b64(algorithm.sign(signing, key))}"


class TestPayloads:
    @pytest.mark.parametrize(
        "change",
        [
            {"exp": 0},
            {"exp": -1},
            {"exp": None},
            {"exp": "9999999999"},
            {"exp": [9_999_999_999]},
            {"nbf": 9_999_999_999},
            {"nbf": "now"},
            {"iss": "another"},
            {"iss": ["union"]},
            {"iss": "union "},
            {"iss": None},
            {"aud": "another"},
            {"aud": []},
            {"aud": ["another"]},
            {"aud": None},
            {"sub": None},
            {"sub": ["m-1"]},
            {"sub": "m-1\n"},
            {"sub": "m-1\0"},
            {"sub": "m-\uff11"},  # a full-width digit
            {"subject": "a:{b}"},
            {"role": ["operator"]},
            {"role": "Operator"},
            {"role": "operator\0"},
            {"role": True},
            {"role": {"operator": True}},
            {"attributes": {"town": ["大朗"]}},
            {"attributes": {"tags": "大朗"}},
            {"attributes": {"tags": ["大朗", 5]}},
            {"attributes": {"new_employment_form": "true"}},
            {"attributes": {"anything": {"town": "大朗"}}},
            {"attributes": {"anything": None}},
            {"organisation": None},
            {"organisation": ""},
            {"organisation": "Dong Guan"},
            {"organisation": ["dongguan"]},
            {"attributes": {"town": {"in": "大朗"}}},
        ],
    )
    async def test_a_rightly_signed_token_that_says_this_is_refused(
        self, provider: Provider, public: SessionTokens, change: dict[str, Any]
    ) -> None:
        await refused(public, signed(ES256, payload(**change), provider.ec))

    async def test_what_must_be_said_may_not_be_left_out(self, provider: Provider, public: SessionTokens) -> None:
        assert (await public.verify(signed(ES256, payload(), provider.ec))).role == "member"
        for name in payload():
            rest = {other: value for other, value in payload().items() if other != name}
            await refused(public, signed(ES256, rest, provider.ec))

    async def test_huge_deep_and_odd_payloads_are_refused(self, local: SessionTokens, secret: OctKey) -> None:
        deep = b'{"a":' * 700 + b"1" + b"}" * 700
        bodies = [b"[" * 2_500 + b"]" * 2_500, deep, b"5", b"null", b"[]", b"\xff", b"", b'{"sub":"m-1","exp":1e400}']
        bodies += [b'{"sub":"m-1","exp":NaN}', b'{"sub":"m-1","exp":' + b"9" * 4_400 + b"}"]
        await refused(local, *(signed(HS256, body, secret) for body in bodies))
        await refused(local, signed(HS256, payload(more="x" * 9_000), secret))
        inner = signed(HS256, payload(), secret)
        await refused(local, signed({**HS256, "cty": "JWT"}, inner.encode(), secret), "." * 8_192, f"{inner}.{inner}")

    async def test_of_claims_that_stand_twice_one_decides_for_everything(
        self, api: Api, settings: Settings, secret: OctKey
    ) -> None:
        """Only a provider can sign such a token; all here read it through the same parser, so it is one person."""
        exp = int(time.time()) + 60
        body = b'{"sub":"m-1","sub":"m-2","role":"operator","role":"member","exp":%d}' % exp
        found = await SessionTokens(settings).verify(signed(HS256, body, secret))
        assert (found.member_id, found.subject, found.role) == ("m-2", "m-2", "member")

    async def test_an_attribute_that_utf8_cannot_spell_is_told_without_breaking(self, api: Api, secret: OctKey) -> None:
        await api.launched(eligibility={"town": {"in": ["大朗"]}})
        headers = {"Authorization": f"Bearer {signed(HS256, payload(attributes={'town': chr(0xD800)}), secret)}"}
        answer = await api.client.post("/v1/drops/trial/ticket", headers=headers)
        assert problem(answer, 403, "not-eligible")["value"] == "\ud800"

    async def test_attributes_make_nobody_an_operator(self, api: Api) -> None:
        await api.launched()
        for name in ("role", "Role", "is_operator", "admin", "subject", "sub"):
            token = api.tokens.issue(Session("m-1", "m-1", "member", {name: "operator"}), 60)
            headers = {"Authorization": f"Bearer {token}"}
            problem(await api.client.post("/v1/drops/trial/pause", headers=headers), 403, "operators-only")

    async def test_a_members_row_makes_nobody_an_operator(self, api: Api, secret: OctKey) -> None:
        body = {"attributes": {"town": "大朗"}, "subject": "operator"}
        assert (await api.operate("PUT", "/v1/members/m-1", body)).status_code == 200
        more = body | {"attributes": {"role": "operator"}}
        problem(await api.operate("PUT", "/v1/members/m-1", more), 422, "member-invalid")
        bare = {"Authorization": f"Bearer {signed(HS256, payload(), secret)}"}
        problem(await api.client.get("/v1/drops", headers=bare), 403, "operators-only")


class TestProvider:
    """The only outbound call: to the one URL in the settings, once for all who wait."""

    @pytest.fixture
    def asking(self, public: SessionTokens, provider: Provider) -> Callable[[], Any]:
        return lambda: public.verify(signed(ES256, payload(), provider.ec))

    async def test_its_redirects_are_followed_nowhere(self, provider: Provider, asking: Callable[[], Any]) -> None:
        elsewhere = provider.url.replace("/keys", "/evil").encode()
        for place in (elsewhere, b"file:///etc/passwd", b"http://169.254.169.254/latest", b"//evil.test/", b"/evil"):
            for status in (b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"):
                provider.answer = Provider.of(b"{}", status, b"Location: " + place + b"\r\n")
                with pytest.raises(IdentityUnavailable):
                    await asking()
        assert {asked.split(b" ")[1] for asked in provider.asked} == {b"/keys"}

    async def test_an_answer_that_holds_no_keys_is_told_as_503(
        self, provider: Provider, asking: Callable[[], Any]
    ) -> None:
        answers = [
            b"",
            b"[]",
            b"5",
            b"null",
            b'"x"',
            b"{}",
            b'{"keys": 5}',
            b'{"keys": [5]}',
            b'{"keys": [{}]}',
            b"\xff",
        ]
        for body in [*answers, b"[" * 3_000, b'{"keys": [{"kty": "EC"}]}', b'{"keys": [{"kty": "oct", "k": 5}]}']:
            provider.answer = Provider.of(body)
            with pytest.raises((IdentityUnavailable, SessionInvalid)):
                await asking()

    async def test_a_thousand_forged_tokens_ask_it_once(
        self, provider: Provider, public: SessionTokens, asking: Callable[[], Any]
    ) -> None:
        assert (await asking()).member_id == "m-1"
        public._fetched_s -= JWKS_ASKED_AGAIN_S + 1
        provider.asked.clear()
        provider.wait_s = 0.05
        own = ECKey.generate_key("P-256")
        forged = [signed({"alg": "ES256", "kid": f"k-{number}"}, payload(), own) for number in range(1_000)]
        answers = await asyncio.gather(*(public.verify(text) for text in forged), return_exceptions=True)
        assert {type(answer) for answer in answers} == {SessionInvalid}
        assert len(provider.asked) == 1
        assert (await asking()).member_id == "m-1"
