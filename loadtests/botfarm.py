"""Members at a steady pace beside a bot farm: how many of their claims are still accepted, and how late.

Bots send as fast as this machine can, by wrk where it is installed, over connections that they keep. Server, store,
members and bots share the machine's cores, so the farm takes from the members also what it would bring along itself.
Each turn of the members is measured alone and beside each kind of bots, in interleaved rounds; every one is audited.
"""

import argparse
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle, islice
from os import urandom
from pathlib import Path

import httpx

from engine.claims.keyring import Keyring
from engine.claims.ticket import seal
from engine.claims.wire import ClaimRequest
from loadtests.bench import plan
from loadtests.bench.contestants import Contestant, members
from loadtests.bench.meter import Load, closed_loop, open_loop
from loadtests.bench.ours import Ours
from loadtests.bench.plan import Plan
from loadtests.bench.rounds import WARM_CLAIMS, WARM_CONNECTIONS, WARM_S_MAX

MEMBER_CONNECTIONS, BOT_CONNECTIONS = 256, 256
MANY_CONNECTIONS = 5_000
BOT_TOKENS = 100_000
ADDRESS_CLAIMS_PER_SECOND = 5_000  # where addresses are limited: more than the members, who come from one
BOT_ADDRESSES = [f"203.0.113.{number}" for number in range(10, 14)]
LEAD_S = 1.0  # that the bots are at it before the members come
FLUSH_S = 1.2  # until the server's counts are told
_ANSWERS = re.compile(r'^flashclaim_http_answers_total\{route="[^"]*/claims",status="(\d+)"\} (\S+)$', re.MULTILINE)


class Guarded(Ours):
    """flashclaim with a rate for addresses, as behind a balancer whose `X-Forwarded-For` is believed."""

    name = "guarded"

    @property
    def _urls(self) -> dict[str, str]:
        return {**super()._urls, "FLASHCLAIM_ADDRESS_CLAIMS_PER_SECOND": str(ADDRESS_CLAIMS_PER_SECOND)}


@dataclass(frozen=True, slots=True)
class Turn:
    """What the members got, and what the bots sent and got, in one turn."""

    members: Load
    bots_per_s: float = 0.0
    bot_codes: Counter[int] = field(default_factory=Counter)

    @property
    def accepted_per_s(self) -> float:
        return self.members.accepted / self.members.seconds


Bots = Callable[[Ours], tuple[str, Sequence[str]]]  # the header that the bots send, up to its end, and the ends


def forged(ours: Ours) -> tuple[str, Sequence[str]]:
    """Tickets of the right form, sealed with a key of the bots' own, each another."""
    return "Authorization: Ticket ", [forged_ticket(ours.drop_id, member) for member in members(BOT_TOKENS)]


def repeated(ours: Ours) -> tuple[str, Sequence[str]]:
    """One good ticket of one member, again and again."""
    (ticket,) = ours.tickets(1)
    return "Authorization: Ticket ", [ticket] * BOT_TOKENS


def flood(ours: Ours) -> tuple[str, Sequence[str]]:
    """A few addresses, each with as much as it can."""
    ticket = forged_ticket(ours.drop_id, "m-bot")
    addresses = list(islice(cycle(BOT_ADDRESSES), BOT_TOKENS))
    return f"Authorization: Ticket {ticket}\r\nX-Forwarded-For: ", addresses


# name: whom the members ask, who else does, and over how many connections
TURNS: dict[str, tuple[type[Ours], Bots | None, int]] = {
    "alone": (Ours, None, 0),
    "forged tickets": (Ours, forged, BOT_CONNECTIONS),
    "forged, many connections": (Ours, forged, MANY_CONNECTIONS),
    "one ticket repeated": (Ours, repeated, BOT_CONNECTIONS),
    "alone, addresses limited": (Guarded, None, 0),
    "few addresses, limited": (Guarded, flood, BOT_CONNECTIONS),
}


def forged_ticket(drop_id: str, member: str) -> str:
    """A ticket as the API makes it, but for the key."""
    request, now_ms = ClaimRequest(urandom(8), 1, 1, member, member), round(time.time() * 1000)
    return seal(Keyring(1, {1: urandom(32)}), drop_id, request, now_ms, now_ms + 3_600_000)


def measure(rounds: int, seconds: float, rate: float, say: Callable[[str], None]) -> dict[str, list[Turn]]:
    """Each kind of turn in each round."""
    found: dict[str, list[Turn]] = {name: [] for name in TURNS}
    with tempfile.TemporaryDirectory(prefix="fc-farm-") as directory:
        place = Path(directory)
        place.chmod(0o755)
        started: dict[type[Ours], Ours] = {kind: kind(place / kind.name) for kind in (Ours, Guarded)}
        try:
            for contestant in started.values():
                contestant.start()
            for number in range(1, rounds + 1):
                for name, (kind, bots, connections) in TURNS.items():
                    turn = _turn(started[kind], bots, connections, seconds, rate)
                    found[name].append(turn)
                    say(f"round {number}/{rounds}  {name:24} {_line(turn)}")
        finally:
            for contestant in started.values():
                contestant.stop()
    return found


def table(found: dict[str, list[Turn]]) -> list[str]:
    """The figures as rows of Markdown: medians, and the members' rate as a share of theirs alone in the same round."""
    rows = [
        "| beside | members accepted/s | share of alone | worst round | p50 / p99 ms | bots' requests/s | they got |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, turns in found.items():
        alone = found["alone, addresses limited" if TURNS[name][0] is Guarded else "alone"]
        shares = [turn.accepted_per_s / base.accepted_per_s for turn, base in zip(turns, alone, strict=True)]
        codes = sum((turn.bot_codes for turn in turns), Counter[int]())
        p50, p99 = (statistics.median(values) for values in zip(*map(_latencies, turns), strict=True))
        rows.append(
            f"| {name} | {statistics.median(turn.accepted_per_s for turn in turns):,.0f}"
            f" | {statistics.median(shares):.1%} | {min(shares):.1%} | {p50:.1f} / {p99:.1f}"
            f" | {statistics.median(turn.bots_per_s for turn in turns):,.0f} | {_shown(codes)} |"
        )
    return rows


def _turn(ours: Ours, bots: Bots | None, connections: int, seconds: float, rate: float) -> Turn:
    warm, sent = ours.prepare(WARM_CLAIMS + int(seconds * rate) + 1).split(WARM_CLAIMS)
    farm_plan = None if bots is None else _plan(ours, bots)
    warmed = closed_loop(ours, warm, WARM_CONNECTIONS, WARM_S_MAX, by_wrk=False)
    if farm_plan is None:
        load = open_loop(ours, sent, MEMBER_CONNECTIONS, seconds, rate)
        ours.check(warmed.accepted + load.accepted, load.unanswered)
        return Turn(load)
    time.sleep(FLUSH_S)
    before = _answers(ours)
    httpx.get(f"http://127.0.0.1:{ours.port}/v1/drops/{ours.drop_id}")  # as people do who look at its page
    with ThreadPoolExecutor(1) as other:
        farming = other.submit(closed_loop, ours, farm_plan, connections, seconds + 2 * LEAD_S)
        time.sleep(LEAD_S)
        load = open_loop(ours, sent, MEMBER_CONNECTIONS, seconds, rate)
        farm = farming.result()
    time.sleep(FLUSH_S)
    codes = _answers(ours) - before - Counter({201: load.accepted})
    # The good ticket that bots have is a claim too, and those of its answers that are not a refusal are of it.
    ours.check(warmed.accepted + load.accepted, load.unanswered + 1)
    return Turn(load, (farm.accepted + farm.refused) / farm.seconds, codes)


def _plan(ours: Ours, bots: Bots) -> Plan:
    header, ends = bots(ours)
    return plan.write(f"/v1/drops/{ours.drop_id}/claims", header, ends, ours.place / "bots")


def _answers(contestant: Contestant) -> Counter[int]:
    text = httpx.get(f"http://127.0.0.1:{contestant.port}/metrics", timeout=30).text
    return Counter({int(status): int(float(count)) for status, count in _ANSWERS.findall(text)})


def _latencies(turn: Turn) -> tuple[float, float]:
    return turn.members.p50_ms, turn.members.p99_ms


def _line(turn: Turn) -> str:
    load = turn.members
    return (
        f"members {turn.accepted_per_s:>6,.0f}/s  p99 {load.p99_ms:>6.1f} ms"
        f"  bots {turn.bots_per_s:>7,.0f}/s {_shown(turn.bot_codes)}"
    )


def _shown(codes: Counter[int]) -> str:
    total = sum(codes.values())
    return ", ".join(f"{code} {count / total:.1%}" for code, count in codes.most_common())


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m loadtests.botfarm", description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=4.0)
    options.add_argument("--rate", type=float, default=2_000.0, help="claims a second that the members send")
    given = options.parse_args()
    found = measure(given.rounds, given.seconds, given.rate, lambda line: print(line, flush=True))
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
