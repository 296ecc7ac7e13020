"""What rounds showed, as the table of docs/faults.md."""

import statistics
from collections.abc import Sequence

from tests.faults.faults import FAULTS
from tests.faults.scene import Round


def markdown(rounds: Sequence[Round]) -> str:
    """A row for each fault that was played, in the registry's order."""
    lines = [
        "| fault | what happens | rounds | recovered after, s: median / most | longest wait, s | claims checked |",
        "|---|---|---|---|---|---|",
    ]
    for name, fault in FAULTS.items():
        played = [found for found in rounds if found.fault == name]
        if not played:
            continue
        recovery_s = [found.recovery_s for found in played]
        lines.append(
            f"| `{name}` | {fault.what} | {len(played)} | {statistics.median(recovery_s):.1f} / {max(recovery_s):.1f}"
            f" | {max(found.waited_s_max for found in played):.1f} | {sum(found.claims for found in played):,} |"
        )
    lines.append(f"| all | | {len(rounds)} | | | {sum(found.claims for found in rounds):,} |")
    return "\n".join(lines)
