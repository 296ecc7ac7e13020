"""What a load run is told, from RUSH_… environment variables into one dataclass."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RushConfig:
    """A run of the rush; times in seconds."""

    drop_id: str
    members: int
    users: int  # who are there at the same time; each lives several members' journeys one after the other
    seed: int
    time_max_s: float
    out_dir: Path
    data_dir: Path | None
    progress_fd: int = 2  # where progress lines go


def from_environment() -> RushConfig:
    """The configuration of this process; raises `KeyError` for a missing RUSH_DROP or RUSH_OUT."""
    data = os.environ.get("FLASHCLAIM_DATA")
    return RushConfig(
        drop_id=os.environ["RUSH_DROP"],
        members=int(os.environ.get("RUSH_MEMBERS", "2000")),
        users=int(os.environ.get("RUSH_USERS", "500")),
        seed=int(os.environ.get("RUSH_SEED", "1")),
        time_max_s=float(os.environ.get("RUSH_TIME_MAX_S", "170")),
        out_dir=Path(os.environ["RUSH_OUT"]),
        data_dir=Path(data) if data else None,
        progress_fd=int(os.environ.get("RUSH_PROGRESS_FD", "2")),
    )
