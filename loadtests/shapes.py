"""The shape of a rush: calm before the opening, everybody at once, then a tail in which nobody new comes."""

from locust import LoadTestShape

from loadtests import config
from loadtests.scenarios import rush

CALM_S, CALM_SHARE = 3.0, 0.5
TAIL_SHARE = 0.7


class RushShape(LoadTestShape):
    """Half of the users in the calm, all of them in the spike, fewer in the tail.

    Users who leave finish what they began (locust's `--stop-timeout`). It ends when all have come, or at the limit.
    """

    def tick(self) -> tuple[int, float] | None:
        """Users wanted now, and how many a second may come."""
        run_s = self.get_run_time()  # type: ignore[no-untyped-call]
        settings = config.from_environment()
        if run_s > settings.time_max_s or rush.rush.is_over:
            return None
        if run_s < CALM_S:
            return max(1, int(settings.users * CALM_SHARE)), settings.users
        users = max(1, int(settings.users * TAIL_SHARE)) if rush.rush.is_empty else settings.users
        return users, settings.users
