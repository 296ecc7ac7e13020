"""What a store must be set to for a claim to outlive a crash, by the name of the level: pure.

disk     synced to the store's own disk before a member is told (the default)
replica  held by so many replicas before a member is told
memory   in the store's memory alone: a crash of it loses claims that members were told of
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Level = Literal["disk", "replica", "memory"]
SETTINGS = ("appendonly", "appendfsync", "maxmemory-policy", "min-replicas-to-write")  # those that decide


class Durability(NamedTuple):
    """The level that is promised; `is_checked` is false where the operator answers for the store's settings.

    `replicas_min` is how many replicas must have a claim at the level `replica`.
    """

    level: Level = "disk"
    replicas_min: int = 1
    is_checked: bool = True


class Fault(NamedTuple):
    """A setting that breaks the promise, and what to do."""

    found: str
    advice: str


def faults(promised: Durability, role: str, config: Mapping[str, str] | None) -> list[Fault]:
    """What keeps a store from the promise; `config` is None where the store does not tell its settings."""
    found = []
    if role not in ("master", "primary"):
        found.append(Fault(f"the store is a {role}, it only copies another one", "point redis_url at the primary"))
    if config is None:
        advice = "allow CONFIG GET, or answer for them yourself with durability_checked = false"
        return [*found, Fault("the store does not tell its settings", advice)]
    wanted = {"maxmemory-policy": "noeviction"}
    if promised.level == "disk":
        wanted |= {"appendonly": "yes", "appendfsync": "always"}
    for name, value in wanted.items():
        if config.get(name) != value:
            found.append(Fault(f"{name} is {config.get(name)!r}", f"set `{name} {value}`: {_WHY[name]}"))
    if promised.level == "replica" and int(config.get("min-replicas-to-write", "0")) < promised.replicas_min:
        advice = f"set `min-replicas-to-write {promised.replicas_min}`: a primary that is cut off must stop giving out"
        found.append(Fault(f"min-replicas-to-write is {config.get('min-replicas-to-write')!r}", advice))
    return found


_WHY = {
    "maxmemory-policy": "an evicted claim is a limit forgotten",
    "appendonly": "a claim must be on disk before a member is told",
    "appendfsync": "a claim must be on disk before a member is told",
}
