"""The promise: only what we sealed opens, as we sealed it and in one spelling; the store's clock alone says when.

Each bit, each length and each key id is tried, for tickets and for receipts. What random texts do is in
tests/engine/claims/test_ticket.py, what the routes answer in tests/api/.
"""

import inspect
import string
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from engine.claims import keyring, receipt, ticket
from engine.claims.keyring import Keyring
from engine.claims.wire import ClaimRequest, pack_request
from engine.errors import Invalid
from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem
from tests.factories.ledger import record_all

KEYS = Keyring(7, {7: b"k" * 32, 8: b"n" * 32})
STRANGERS = Keyring(7, {7: b"x" * 32})
MEMBERS = ["m", "m1", "m12", "m123"]  # one more byte each: the text ends in every way that base64 can end
Open = Callable[[Keyring, str], object]


def sealed(member: str, keys: Keyring = KEYS, drop: str = "trial") -> list[tuple[Open, str]]:
    """A ticket and a receipt of a member, each with what opens it."""
    request = ClaimRequest(b"nonce-08", 1, 1, member, "person-1")
    return [
        (ticket.open_, ticket.seal(keys, drop, request, 1, 2)),
        (receipt.verify, receipt.sign(keys, drop, 0, 1, 1, pack_request(request))),
    ]


PROOFS = [proof for member in MEMBERS for proof in sealed(member)]
REFUSED = (ticket.TicketInvalid, receipt.ReceiptInvalid)


def refused(open_: Open, text: str) -> None:
    """Raises where a text opens, or breaks in another way than it should."""
    try:
        found = open_(KEYS, text)
    except REFUSED:
        return
    raise AssertionError(f"{text!r} opened: {found}")


def data_of(text: str) -> bytes:
    found = ticket.from_text(text)
    assert found is not None
    return found


@pytest.mark.parametrize(("open_", "text"), PROOFS)
class TestForged:
    def test_as_it_is_it_opens(self, open_: Open, text: str) -> None:
        assert open_(KEYS, text)

    def test_every_single_bit_counts(self, open_: Open, text: str) -> None:
        data = data_of(text)
        for bit in range(len(data) * 8):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            refused(open_, ticket.to_text(bytes(changed)))

    def test_at_every_length_it_is_cut_off(self, open_: Open, text: str) -> None:
        data = data_of(text)
        for length in range(len(text)):
            refused(open_, text[:length])
            refused(open_, text[length + 1 :])
        for length in range(len(data)):
            refused(open_, ticket.to_text(data[:length]))
            refused(open_, ticket.to_text(data[length + 1 :]))

    def test_nothing_can_be_put_before_it_behind_it_or_into_it(self, open_: Open, text: str) -> None:
        data = data_of(text)
        for byte in range(256):
            refused(open_, ticket.to_text(data + bytes((byte,))))
            refused(open_, ticket.to_text(bytes((byte,)) + data))
        for at in range(len(data) + 1):
            refused(open_, ticket.to_text(data[:at] + b"\0" + data[at:]))
        refused(open_, text + text)
        refused(open_, text + "A" * 10_000)

    def test_under_every_other_key_id_it_is_refused(self, open_: Open, text: str) -> None:
        data = data_of(text)
        for key_id in set(range(256)) - {7}:
            refused(open_, ticket.to_text(data[:1] + bytes((key_id,)) + data[2:]))

    def test_another_key_with_the_right_id_is_refused(self, open_: Open, text: str) -> None:
        refused(open_, dict(sealed("m", STRANGERS))[open_])

    def test_the_end_of_another_proof_does_not_fit(self, open_: Open, text: str) -> None:
        data = data_of(text)
        for other, strange in [*PROOFS, *sealed("m", drop="other")]:
            if strange != text:
                refused(open_, ticket.to_text(data[:-16] + data_of(strange)[-16:]))
            if other is not open_:
                refused(open_, strange)


@pytest.mark.parametrize(("open_", "text"), PROOFS)
def test_there_is_one_spelling(open_: Open, text: str) -> None:
    """Else a list of used or stolen texts could be passed by writing one otherwise."""
    data = data_of(text)
    rest = len(text) % 4
    last = [sign for sign in string.ascii_letters + string.digits + "-_" if sign != text[-1]]
    spellings = [text + "=", text + "==", text + "=" * (-rest % 4 or 4), text + "A", text + "AA==", "=" + text]
    spellings += [text + space for space in " \t\r\n\0\x0b\u00a0"] + [
        text[:9] + space + text[9:] for space in " \r\n\0"
    ]
    spellings += [text[:-1] + sign for sign in last]  # some stand for the same bytes: they differ in bits to spare
    spellings += [text.replace("-", "+").replace("_", "/")] if set(text) & {"-", "_"} else []
    spellings += [text.replace(text[3], chr(ord(text[3]) + 0xFEE0), 1), text.swapcase(), text[::-1], data.hex()]
    for spelling in spellings:
        refused(open_, spelling)


def test_proofs_with_the_signs_that_two_alphabets_spell_differently_are_among_the_tried() -> None:
    """So that the other alphabet is tried above: both signs occur in what base64 makes of these bytes."""
    request = ClaimRequest(b"\xfb\xff\xbf" * 2 + b"\xfb\xff", 1, 1, "m-1", "m-1")
    for open_, text in (
        (ticket.open_, ticket.seal(KEYS, "trial", request, 1, 2)),
        (receipt.verify, receipt.sign(KEYS, "trial", 0, 1, 1, pack_request(request))),
    ):
        assert {"-", "_"} & set(text)
        assert open_(KEYS, text)
        refused(open_, text.replace("-", "+").replace("_", "/"))


def test_macs_are_compared_in_constant_time() -> None:
    """A clock cannot show this in a test without chance; so the one comparison of each is read."""
    for module in (ticket, receipt):
        source = inspect.getsource(module)
        assert source.count("compare_digest(") == 1
        assert "== expected" not in source
        assert "!= expected" not in source
    assert keyring.MAC_BYTES * 8 >= 128, "a forger who tries a million a second needs 10^25 years"


class TestTheWay:
    async def test_a_stolen_ticket_claims_for_its_member_whoever_shows_it(self, api: Api, stores: Stores) -> None:
        await api.launched()
        stolen = await api.ticket("victim")
        headers = [("Authorization", f"Ticket {stolen}"), *api.bearer("thief").items(), ("X-Member-Id", "thief")]
        assert (await api.client.post("/v1/drops/trial/claims", headers=headers)).status_code == 201
        await record_all(stores)
        for member, count in (("victim", 1), ("thief", 0)):
            mine = await api.client.get("/v1/claims", headers=api.bearer(member))
            assert len(mine.json()["claims"]) == count

    async def test_shown_a_hundred_times_it_takes_once(self, api: Api) -> None:
        await api.launched(stock=5, limit=5)
        shown = await api.ticket()
        assert [(await api.claim(shown)).status_code for _ in range(100)] == [201] + [200] * 99
        assert (await api.operate("GET", "/v1/drops/trial/report")).json()["items"][0]["store"]["taken"] == 1

    async def test_a_receipt_is_no_ticket_and_a_ticket_no_receipt(self, api: Api) -> None:
        await api.launched(limit=5)
        shown = await api.ticket()
        proof = (await api.claim(shown)).json()["receipt"]
        problem(await api.claim(proof), 401, "ticket-invalid")
        answer = await api.client.post("/v1/receipts/verify", json={"receipt": shown})
        problem(answer, 422, "receipt-invalid")

    async def test_a_session_is_no_ticket_and_a_ticket_no_session(self, api: Api) -> None:
        await api.launched()
        session = api.bearer()["Authorization"].removeprefix("Bearer ")
        problem(await api.claim(session), 401, "ticket-invalid")
        for path in ("/v1/drops/trial/ticket", "/v1/drops/trial/pause"):
            answer = await api.client.post(path, headers={"Authorization": f"Bearer {await api.ticket()}"})
            problem(answer, 401, "session-invalid")


HOUR = timedelta(hours=1)


class TestClockSkew:
    """The API's clock is wrong by hours: what the store's clock says holds."""

    @pytest.fixture(params=[-5, 5], ids=["behind", "ahead"])
    def skew_h(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
        hours = int(request.param)
        monkeypatch.setattr("engine.claims.service.time", SimpleNamespace(time=lambda: time.time() + hours * 3600))
        return hours

    async def test_nothing_is_given_before_the_opening(self, api: Api, skew_h: int) -> None:
        opens = datetime.now(UTC) + HOUR
        await api.launched(opens_at=opens, closes_at=(opens + 9 * HOUR).isoformat())
        problem(await api.claim(await api.ticket()), 409, "not-open")

    async def test_nothing_is_given_after_the_close(self, api: Api, skew_h: int) -> None:
        opens = datetime.now(UTC) - 2 * HOUR
        await api.launched(opens_at=opens, closes_at=(opens + HOUR).isoformat())
        taken = await api.client.post("/v1/drops/trial/ticket", headers=api.bearer())
        if skew_h > 0:
            problem(taken, 409, "closed")
        else:
            problem(await api.claim(taken.json()["ticket"]), 409, "closed")

    async def test_a_ticket_never_outlives_its_drop(self, api: Api, skew_h: int) -> None:
        opens = datetime.now(UTC) - HOUR
        closes = opens + 20 * HOUR
        await api.launched(opens_at=opens, closes_at=closes.isoformat())
        answer = await api.client.post("/v1/drops/trial/ticket", headers=api.bearer())
        assert datetime.fromisoformat(answer.json()["expires_at"]) <= closes
        claim = await api.claim(answer.json()["ticket"])
        if skew_h < 0:  # it was given out too old: nothing is claimed, and the member is told
            problem(claim, 401, "ticket-expired")
        else:
            assert claim.status_code == 201
            assert abs(datetime.fromisoformat(claim.json()["claimed_at"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_every_refusal_is_the_callers_fault() -> None:
    """A forged text is told as 4xx, never as a failure of ours: an alarm for each would drown the real ones."""
    assert all(issubclass(kind, Invalid) for kind in REFUSED)
