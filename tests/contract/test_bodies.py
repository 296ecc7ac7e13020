"""The promise: however a request is written and cut up, it means the same on the gate as on the twin route."""

import random
from itertools import pairwise

import pytest

from tests.contract.front import REQUEST_ID, Front, claim_request, told
from tests.contract.line import request

WISH = b'{"item": "box", "quantity": 2}'
JSON = ("Content-Type", "application/json")
CHUNKED = ("Transfer-Encoding", "chunked")
EXPECT = ("Expect", "100-continue")


OTHER_PLACES = [
    "/v1/drops/TRIAL/claims",
    "/v1/drops/trial%00/claims",
    "/v1/drops/trial/../trial/claims",
    "/V1/drops/trial/claims",
    "//v1/drops/trial/claims",
    "/v1/drops/trial/claims%20",
]


async def took_two(front: Front) -> None:
    """The body was read as it was meant: two units went, once."""
    assert await front.taken() == 2


class TestSegments:
    async def test_byte_by_byte(self, front: Front) -> None:
        await front.launched(limit=2)
        data = claim_request(await front.ticket(), WISH, [JSON])
        line = await front.line()
        await line.send(*[data[at : at + 1] for at in range(len(data))])
        assert told(await line.read(), 201)["quantity"] == 2
        await took_two(front)

    async def test_the_body_in_one_segment_with_the_head_and_in_one_of_its_own(self, front: Front) -> None:
        await front.launched(limit=2)
        ticket = await front.ticket()
        data = claim_request(ticket, WISH, [JSON])
        for status, cuts in ((201, [0]), (200, [len(data) - len(WISH)]), (200, [len(data) - 7, len(data) - 3])):
            line = await front.line()
            edges = [0, *cuts, len(data)]
            pieces = [data[start:end] for start, end in pairwise(edges) if end > start]
            await line.send(*pieces, pause_s=0.005)
            assert told(await line.read(), status)["quantity"] == 2
        await took_two(front)

    async def test_cut_anywhere(self, front: Front) -> None:
        """Several requests as one stream, cut at random: the answers do not depend on it."""
        await front.launched(limit=2)
        ticket = await front.ticket()
        requests = [
            claim_request(ticket, WISH, [JSON]),
            request("GET", "/v1/drops/trial"),
            claim_request("nonsense", WISH),
            claim_request(ticket, headers=[CHUNKED]) + b"1e\r\n" + WISH + b"\r\n0\r\n\r\n",
            front.ticket_request(),
            claim_request(ticket),
        ]
        data = b"".join(requests)
        assert len(WISH) == 0x1E
        for seed in range(12):
            chance = random.Random(seed)
            edges = sorted({0, len(data), *chance.sample(range(1, len(data)), chance.randint(1, 9))})
            line = await front.line()
            await line.send(*[data[start:end] for start, end in pairwise(edges)], pause_s=0.001)
            answers = [(await line.read()).status for _ in requests]
            assert answers == [200 if seed else 201, 200, 401, 200, 200, 200], f"seed {seed}, cut at {edges}"
            await line.close()
        await took_two(front)


class TestLengths:
    async def test_no_length_and_a_length_of_zero_are_no_body(self, front: Front) -> None:
        await front.launched()
        ticket = await front.ticket()
        line = await front.line()
        told(await line.ask(claim_request(ticket)), 201)
        for headers in ([("Content-Length", "0")], [("content-length", "000"), JSON]):
            told(await line.ask(claim_request(ticket, headers=headers)), 200)

    async def test_a_chunked_body(self, front: Front) -> None:
        await front.launched(limit=2)
        head = claim_request(await front.ticket(), headers=[CHUNKED, JSON])
        line = await front.line()
        await line.send(head, b"5\r\n" + WISH[:5] + b"\r\n", b"19;a=b\r\n" + WISH[5:] + b"\r\n0\r\n\r\n")
        assert told(await line.read(), 201)["quantity"] == 2
        told(await line.ask(head + b"0\r\nX-Trailer: 1\r\n\r\n"), 200)

    async def test_a_chunked_body_that_is_too_large_is_413(self, front: Front) -> None:
        await front.launched()
        head = claim_request(await front.ticket(), headers=[CHUNKED, JSON])
        told(await front.ask(head + b"401\r\n" + b" " * 1_025 + b"\r\n0\r\n\r\n"), 413, "too-large")

    async def test_a_body_for_a_get_does_not_reach_the_next_request(self, front: Front) -> None:
        await front.launched()
        ticket = await front.ticket()
        line = await front.line()
        assert (await line.ask(request("GET", "/v1/drops/trial", body=claim_request(ticket)), "GET")).status == 200
        told(await line.ask(claim_request(ticket)), 201)


class TestExpect:
    async def test_continue_comes_first_and_then_the_answer(self, front: Front) -> None:
        await front.launched(limit=2)
        line = await front.line()
        await line.send(claim_request(await front.ticket(), WISH, [EXPECT]))
        assert (await line.read()).status == 100
        told(await line.read(), 201)
        await took_two(front)

    async def test_continue_comes_while_the_body_is_withheld(self, front: Front) -> None:
        await front.launched(limit=2)
        data = claim_request(await front.ticket(), WISH, [EXPECT, JSON])
        line = await front.line()
        await line.send(data[: -len(WISH)])
        assert (await line.read()).status == 100
        await line.send(WISH)
        told(await line.read(), 201)
        await took_two(front)

    async def test_a_ticket_too_may_be_asked_for_so(self, front: Front) -> None:
        await front.launched()
        line = await front.line()
        headers = [front.bearer(), EXPECT, ("X-Request-ID", REQUEST_ID)]
        await line.send(request("POST", "/v1/drops/trial/ticket", headers, WISH))
        assert (await line.read()).status == 100
        told(await line.read(), 200)

    async def test_a_refusal_comes_after_continue_too(self, front: Front) -> None:
        await front.launched()
        data = claim_request("nonsense", WISH, [EXPECT])
        line = await front.line()
        await line.send(data[: -len(WISH)])
        assert (await line.read()).status == 100
        await line.send(WISH)
        told(await line.read(), 401, "ticket-invalid", ["www-authenticate"])


class TestTargets:
    @pytest.mark.parametrize(
        "target",
        [
            "/v1/drops/tri%61l/claims",
            "/v1/drops/trial/cl%61ims",
            "/v1/drops/trial%2Fclaims",
            "/v1/drops/trial/claims?",
            "/v1/drops/trial/claims?x=1",
            "/v1/drops/trial/claims#x",
            "http://flashclaim.test/v1/drops/trial/claims",
            "http://elsewhere.test:80/v1/drops/trial/claims?y",
        ],
    )
    async def test_every_spelling_of_the_path_is_the_same_place(self, front: Front, target: str) -> None:
        await front.launched()
        told(await front.ask(claim_request(await front.ticket(), target=target)), 201)

    async def test_another_path_is_another_place(self, front: Front) -> None:
        await front.launched()
        for target in OTHER_PLACES:
            answer = await front.ask(claim_request(await front.ticket(), target=target))
            assert answer.status == 404
            assert await front.taken() == 0


class TestHeaders:
    async def test_names_may_have_any_case_and_values_any_space(self, front: Front) -> None:
        await front.launched(limit=2)
        ticket = await front.ticket()
        head = [
            "POST /v1/drops/trial/claims HTTP/1.1",
            "hOST:flashclaim.test",
            f"AUTHORIZATION:   tIcKeT {ticket}  ",
            f"x-ReQuEsT-iD:     {REQUEST_ID}",
            "CONTENT-length:30",
            "content-TYPE: application/json",
        ]
        data = "\r\n".join([*head, "", ""]).encode() + WISH
        assert told(await front.ask(data), 201)["quantity"] == 2

    @pytest.mark.parametrize("is_first", [True, False])
    async def test_of_two_authorizations_the_first_counts(self, front: Front, is_first: bool) -> None:
        await front.launched()
        ticket = await front.ticket()
        other = ("Authorization", "Ticket nonsense")
        own = ("Authorization", f"Ticket {ticket}")
        headers = [own, other] if is_first else [other, own]
        answer = await front.ask(request("POST", "/v1/drops/trial/claims", headers))
        assert answer.code == ("201" if is_first else "ticket-invalid")

    async def test_two_content_types_are_judged_by_the_first(self, front: Front) -> None:
        await front.launched(limit=2)
        headers = [("Content-Type", "text/xml"), JSON]
        answer = await front.ask(claim_request(await front.ticket(), WISH, headers))
        told(answer, 415, "media-type")

    async def test_a_hundred_headers_do_not_matter(self, front: Front) -> None:
        await front.launched()
        headers = [(f"X-{number}", "v" * 50) for number in range(100)]
        told(await front.ask(claim_request(await front.ticket(), headers=headers)), 201)
