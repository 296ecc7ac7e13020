"""The promise: the scripts decide exactly as the pure model does, on a real Valkey and on fakeredis alike."""

import fakeredis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis

from tests.lua.store_machine import StoreMachine

_SETTINGS = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def run_on(store: "Redis") -> None:
    machine = type("Machine", (StoreMachine,), {"redis": store})
    run_state_machine_as_test(machine, settings=_SETTINGS)


def test_real_valkey_decides_as_the_model_does(redis_url: str) -> None:
    with Redis.from_url(redis_url) as store:
        run_on(store)


def test_fakeredis_decides_as_the_model_does() -> None:
    run_on(fakeredis.FakeStrictRedis())
