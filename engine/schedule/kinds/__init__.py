"""The kinds of jobs: which function does each.

How to add one: a function in a file of this folder, and a line in `KINDS`. Whoever knows its times plans it by
`engine.schedule.service.plan`, in the transaction that sets them. What a handler may rely on, and must keep to:

- It is called at its jobs' time or later, by one worker of all, until it has returned once. Whatever it writes by
  `work.connection` is committed with the mark that they are done: all of it once, or nothing. It commits nothing there
  by itself.
- What it does elsewhere, in the store or by a service with a transaction of its own, may be done again: by a worker
  that comes after one that was killed. So there it must do the same thing twice without harm; `job.key` is an
  idempotency key for it. Before it acts on the store it calls `work.follow`.
- Times may have been moved since: it looks whether a job is still to be done, and leaves it where it is not.
- It raises `Later` where the time has not come. Any other error is a failed attempt: it is tried again after 1, 2, 4, …
  seconds, twelve times (a quarter of an hour), then an operator has to look. `Unavailable` is tried for ever.
- It has five minutes, and one connection to the ledger beside `work.connection`. What computes for long goes to a
  thread.
- It gets one job, or as many as its line says where that is cheaper: of a kind that writes by `work.connection` alone,
  and quickly. Where it raises then, each is tried by itself.
"""

from collections.abc import Mapping

from engine.drops import times
from engine.schedule.handler import Kind
from engine.schedule.kinds import draws, drops

KINDS: Mapping[str, Kind] = {
    times.OPENS: Kind(drops.opens, at_once=64),
    times.WAVE: Kind(drops.wave, at_once=64),
    times.CLOSES: Kind(drops.closes),
    times.DRAW_CLOSES: Kind(draws.closes),
    times.DRAW_REVEALS: Kind(draws.reveals),
    times.DRAW_AWARDS: Kind(draws.awards),
}
