"""Buckets in a store beside the same buckets in the pure model: every batch is given to both, then both must agree."""

from typing import Any, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from redis import Redis

import lua
from engine.claims import keys
from engine.rates.model import Bucket, Rate, decide
from tests.lua.store_machine import CLOCK

BEGAN_MS = 1_750_000_000_000
RATES = [
    Rate("member", "claims", 10),
    Rate("address", "claims", 3, burst=7),
    Rate("client", "claims", 1),
    Rate("member", "claims", 7, burst=2),
]
buckets = st.builds(
    lambda rate, name: Bucket(keys.bucket(rate.what, rate.whose, name), rate),
    st.sampled_from(RATES),
    st.sampled_from("ab"),
)


class AdmissionMachine(RuleBasedStateMachine):
    """Random batches and clock jumps, also backwards, on a store and on the model."""

    redis: "Redis"

    def __init__(self) -> None:
        super().__init__()
        self.redis.flushall()
        self.now_ms = BEGAN_MS
        self.redis.set("test:now", self.now_ms)
        self.due_us: dict[str, int] = {}

    @rule(step_ms=st.sampled_from([1, 1, 50, 99, 100, 101, 334, 1_000, 5_000, -1, -400, -3_600_000]))
    def jump(self, step_ms: int) -> None:
        self.now_ms += step_ms
        self.redis.set("test:now", self.now_ms)

    @rule(batch=st.lists(st.lists(buckets, min_size=1, max_size=3), min_size=1, max_size=8))
    def admit(self, batch: list[list[Bucket]]) -> None:
        names = list({bucket.key: None for wanted in batch for bucket in wanted})
        requests = [
            ",".join(f"{names.index(key) + 1}:{rate.interval_us}:{rate.slack_us}" for key, rate in wanted)
            for wanted in batch
        ]
        replies, *lives_ms = self._run(names, requests)
        for wanted, reply in zip(batch, replies, strict=True):
            expected = decide(self.due_us, wanted, self.now_ms * 1_000)
            assert reply == (0 if expected is None else b"%d:%d" % expected)
        for name, lives in zip(names, lives_ms, strict=True):
            # A bucket goes when it is full again. -2: never spent from; -1: not from now, kept by the lines below.
            full_ms = -(-(self.due_us.get(name, 0) - self.now_ms * 1_000) // 1_000)
            assert lives == -1 or full_ms - 90 < lives <= full_ms or (lives == -2 and name not in self.due_us)

    def _run(self, names: list[str], requests: list[str]) -> list[Any]:
        """The script's replies, then how long each bucket would live; it is kept, for the tests' clock is not the
        store's."""
        script = lua.load("admit", now=CLOCK)
        with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.eval(script.text, len(names), *names, *requests)
            for name in names:
                pipeline.pttl(name)
            for name in names:
                pipeline.persist(name)
            return pipeline.execute()[: 1 + len(names)]

    @invariant()
    def every_bucket_of_the_store_is_the_models(self) -> None:
        found = {name: int(cast(bytes, self.redis.get(name))) for name in self.due_us}
        assert found == self.due_us
