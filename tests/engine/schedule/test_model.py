"""The promise: a job that fails is tried again soon, then ever more rarely, and for a stated time."""

from hypothesis import given
from hypothesis import strategies as st

from engine.bounds import JOB_ATTEMPTS_MAX, JOB_PAUSE_S_MAX
from engine.schedule.model import pause_s


def test_pauses_double_up_to_a_quarter_of_an_hour_in_all() -> None:
    pauses = [pause_s(attempts) for attempts in range(1, JOB_ATTEMPTS_MAX)]
    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert 600 < sum(pauses) < 1_200


@given(st.integers(1, 1_000_000))
def test_no_number_of_attempts_is_too_many(attempts: int) -> None:
    assert 1 <= pause_s(attempts) <= pause_s(attempts + 1) <= JOB_PAUSE_S_MAX
