"""What a rush counts while it runs: the answers to claims, how long they took, and what clients were told."""

import json
import statistics
import time
from collections import Counter
from math import ceil
from pathlib import Path
from typing import IO, Any


class Tally:
    """Counts one run. Each 201 and 200 with its receipt, and each "sold out", goes to the client log for the audit."""

    def __init__(self, out_dir: Path, drop_id: str) -> None:
        out_dir.mkdir(parents=True, exist_ok=True)
        self._out_dir = out_dir
        self._drop_id = drop_id
        self._log: IO[str] = (out_dir / "claims.jsonl").open("w", encoding="utf-8")
        self._claims: dict[str, str] = {}  # ticket → claim id, to see that a repeat is the same claim
        self.answers: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.broken: list[str] = []
        self.accepted_in_second: Counter[int] = Counter()
        self.latencies_ms: list[float] = []
        self.people_done = 0

    def claim_answered(
        self, ticket: str, item: str, status: int, answer: dict[str, Any], took_ms: float, town: int = 0
    ) -> None:
        """Count one answer to a claim for a unit of `item`; `town` is the number of the member's town, 0 for none."""
        self.latencies_ms.append(took_ms)
        if status not in (200, 201):
            code = str(answer.get("code", status))
            self.answers[code] += 1
            if code == "sold-out":
                now_ms = time.time() * 1000
                refused = {"code": code, "drop_id": self._drop_id, "item": item, "quantity": 1, "town": town}
                self._write({**refused, "sent_ms": int(now_ms - took_ms), "answered_ms": ceil(now_ms)})
            return
        self.answers["accepted" if status == 201 else "repeated"] += 1
        if status == 201:
            self.accepted_in_second[int(time.time())] += 1
        claim_id = str(answer["claim_id"])
        if self._claims.setdefault(ticket, claim_id) != claim_id:
            self.broken.append(f"one ticket was told {self._claims[ticket]} and {claim_id}")
        self._write({"status": status, **answer})

    def _write(self, line: dict[str, Any]) -> None:
        self._log.write(json.dumps(line, ensure_ascii=False) + "\n")

    def close(self) -> dict[str, Any]:
        """End the log and write the summary beside it."""
        self._log.close()
        found = self.summary()
        (self._out_dir / "summary.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
        return found

    def summary(self) -> dict[str, Any]:
        """The figures of the run so far; latencies in ms, as the clients saw them."""
        refused = {code: count for code, count in self.answers.items() if code not in ("accepted", "repeated")}
        cuts = statistics.quantiles(self.latencies_ms, n=1000) if len(self.latencies_ms) > 1 else [0.0] * 999
        return {
            "people": self.people_done,
            "claims_sent": len(self.latencies_ms),
            "accepted": self.answers["accepted"],
            "accepted_claims": len(set(self._claims.values())),
            "repeated": self.answers["repeated"],
            "refused": dict(sorted(refused.items(), key=lambda pair: -pair[1])),
            "errors": dict(self.errors),
            "broken": self.broken,
            "accepted_per_s_peak": max(self.accepted_in_second.values(), default=0),
            "p50_ms": round(cuts[499], 1),
            "p99_ms": round(cuts[989], 1),
        }
