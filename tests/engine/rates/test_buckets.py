"""The promise: a process counts as the pure model does, says rightly when to come back, and keeps a bounded memory."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bounds import BUCKETS_MAX
from engine.rates.buckets import Buckets
from engine.rates.model import Bucket, Rate, SlowDown, decide

rates = st.builds(Rate, st.just("member"), st.just("claims"), st.integers(1, 50), st.integers(0, 20))
steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([0, 0, 0, 1, 19_999, 20_000, 100_000, 333_334, 1_000_000])),
    min_size=1,
    max_size=120,
)


class Clock:
    """A process's clock, in a test's hand."""

    def __init__(self) -> None:
        self.now_ns = 7_000_000_000

    def __call__(self) -> int:
        return self.now_ns


def spent(buckets: Buckets, key: object) -> int | None:
    """None when there was room, else the seconds of `Retry-After`."""
    try:
        buckets.spend(key)
    except SlowDown as error:
        return error.retry_after_s
    return None


class TestRate:
    def test_a_burst_of_nothing_is_one_seconds_worth(self) -> None:
        buckets = Buckets(Rate("member", "claims", 10), Clock())
        assert [spent(buckets, "m") for _ in range(12)] == [None] * 10 + [1, 1]

    def test_after_a_burst_the_steady_rate_holds(self) -> None:
        clock = Clock()
        buckets = Buckets(Rate("member", "claims", 2, burst=5), clock)
        assert [spent(buckets, "m") for _ in range(6)] == [None] * 5 + [1]
        clock.now_ns += 499_999_000
        assert spent(buckets, "m") == 1
        clock.now_ns += 1_000
        assert [spent(buckets, "m") for _ in range(2)] == [None, 1]

    @given(rate=rates, asked=st.integers(1, 200))
    def test_whoever_comes_back_as_told_is_let_in_and_not_much_too_late(self, rate: Rate, asked: int) -> None:
        due_us: dict[str, int] = {}
        for _ in range(asked):
            refused = decide(due_us, [Bucket("m", rate)], 1_000)
        if refused is None:
            return
        told_s = rate.slow_down(refused.wait_us).retry_after_s
        assert decide(dict(due_us), [Bucket("m", rate)], 1_000 + refused.wait_us - 1) is not None
        assert decide(dict(due_us), [Bucket("m", rate)], 1_000 + refused.wait_us) is None
        assert told_s * 1_000_000 - refused.wait_us < 1_000_000

    @given(rate=rates, steps=steps)
    def test_never_more_than_the_burst_and_what_the_rate_adds(self, rate: Rate, steps: list[tuple[str, int]]) -> None:
        due_us: dict[str, int] = {}
        now_us = began_us = 1_000
        admitted = 0
        for _, later_us in steps:
            now_us += later_us
            admitted += decide(due_us, [Bucket("m", rate)], now_us) is None
        assert admitted <= (rate.burst or rate.per_second) + (now_us - began_us) * rate.per_second / 1_000_000

    def test_off_counts_nothing(self) -> None:
        buckets = Buckets(Rate("member", "claims", 0, burst=1), Clock())
        assert [spent(buckets, "m") for _ in range(100)] == [None] * 100
        assert len(buckets) == 0

    def test_the_refusal_names_whose_rate_it_was(self) -> None:
        buckets = Buckets(Rate("client key", "claims", 1), Clock())
        buckets.spend("app")
        with pytest.raises(SlowDown, match="more than 1 claims a second from this client key") as refused:
            buckets.spend("app")
        assert refused.value.facts == {"whose": "client key"}

    @pytest.mark.parametrize(
        ("what", "advice"),
        [
            ("claims", "wait; a ticket stays good"),
            ("tickets", "wait, then ask for your ticket again"),
            ("invalid tickets", "wait"),
        ],
    )
    def test_the_refusal_promises_no_ticket_to_whoever_has_none(self, what: str, advice: str) -> None:
        told = Rate("member", what, 3).slow_down(1).detail
        assert told == f"more than 3 {what} a second from this member: {advice}"


@given(rate=rates, steps=steps)
def test_a_process_decides_as_the_model_does(rate: Rate, steps: list[tuple[str, int]]) -> None:
    clock, due_us = Clock(), dict[str, int]()
    buckets = Buckets(rate, clock)
    for key, later_us in steps:
        clock.now_ns += later_us * 1_000
        expected = decide(due_us, [Bucket(key, rate)], clock.now_ns // 1_000)
        assert spent(buckets, key) == (expected and rate.slow_down(expected.wait_us).retry_after_s)


class TestMemory:
    def test_a_million_keys_at_once_take_no_more_than_the_bound(self) -> None:
        buckets = Buckets(Rate("address", "invalid tickets", 1, burst=600), Clock())
        for number in range(1_000_000):
            buckets.spend(f"address-{number}")
        assert len(buckets) <= 2 * BUCKETS_MAX

    def test_both_generations_take_the_memory_that_is_said(self) -> None:
        buckets = Buckets(Rate("address", "invalid tickets", 1, burst=600), Clock())
        tracemalloc.start()
        try:
            for number in range(BUCKETS_MAX * 2):
                buckets.spend(f"address-{number}")
            held_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held_bytes < 30_000_000

    def test_buckets_that_are_full_again_are_dropped(self) -> None:
        clock = Clock()
        buckets = Buckets(Rate("member", "claims", 10), clock)
        for number in range(5_000):
            buckets.spend(number)
        for _ in range(3):
            clock.now_ns += 1_000_000_000
            buckets.spend("somebody")
        assert len(buckets) <= 2

    def test_a_bucket_that_is_not_full_again_is_kept(self) -> None:
        clock = Clock()
        buckets = Buckets(Rate("member", "claims", 1, burst=3), clock)
        for _ in range(3):
            buckets.spend("m")
        for number in range(3):  # others bring the generations round meanwhile
            clock.now_ns += 900_000_000
            buckets.spend(number)
        assert [spent(buckets, "m") for _ in range(3)] == [None, None, 1]
