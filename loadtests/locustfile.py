"""For locust: `RUSH_DROP=… RUSH_OUT=… FLASHCLAIM_DATA=… locust -f loadtests/locustfile.py --host http://…`."""

from loadtests.scenarios.rush import Member
from loadtests.shapes import RushShape

__all__ = ["Member", "RushShape"]
