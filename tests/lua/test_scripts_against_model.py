"""The promise: the scripts decide exactly as the pure model does, on a real Valkey and on fakeredis alike."""

from typing import Any

import fakeredis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis

from tests.lua.admission_machine import AdmissionMachine
from tests.lua.campaign_machine import CampaignMachine
from tests.lua.store_machine import StoreMachine

_SETTINGS = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(params=[StoreMachine, CampaignMachine, AdmissionMachine])
def machine(request: pytest.FixtureRequest) -> Any:
    return request.param


def run_on(store: "Redis", machine: Any) -> None:
    run_state_machine_as_test(type("Machine", (machine,), {"redis": store}), settings=_SETTINGS)


def test_real_valkey_decides_as_the_model_does(redis_url: str, machine: Any) -> None:
    with Redis.from_url(redis_url) as store:
        run_on(store, machine)


def test_fakeredis_decides_as_the_model_does(machine: Any) -> None:
    run_on(fakeredis.FakeStrictRedis(), machine)
