"""Makes a CSV of members, all of it from one seed: for the import of a million rows, and for what comes after it.

    python -m loadtests.members_csv 1000000 members.csv [--wrong 1000]

The ID numbers in it are nobody's: they have the form and the check of real ones, and dates of birth by chance.
"""

import argparse
import csv
import random
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from engine import towns

HEADING = (
    "member_id", "id_number", "town", "sector", "joined_at", "verified_at", "new_employment_form", "tags",
)  # fmt: skip
SECTORS = ("制造业", "物流", "餐饮", "建筑业", "教育", "医疗", "零售", "信息技术")
_TAGS = ("", "", "", "", "model-worker", "courier", "courier;night-shift")
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_WRONG = ("m 1,,,,,,,", "{},110105194912310020,,,,,,", "{},,大郎,,,,,", "{},,,,2025-02-30,,,", "{}")


def rows(count: int, seed: int) -> Iterator[tuple[str, ...]]:
    """The rows of so many members."""
    chance, names = random.Random(seed), towns.load()
    for number in range(count):
        town = chance.choice(names)
        born = date(1950, 1, 1) + timedelta(days=chance.randrange(20_000))
        joined = date(2005, 1, 1) + timedelta(days=chance.randrange(7_300))
        yield (
            f"m-{number:07}",
            _id_number(f"441900{born:%Y%m%d}{chance.randrange(1_000):03}"),
            town.zh,
            chance.choice(SECTORS),
            f"{joined:%Y-%m-%d}",
            f"{joined + timedelta(days=30):%Y-%m-%d}",
            "是" if chance.random() < 0.1 else "否",
            chance.choice(_TAGS),
        )


def write(path: Path, count: int, seed: int, wrong: int) -> None:
    """The file, with so many rows spread over it that are wrong."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADING)
        every = count // wrong if wrong else 0
        for number, row in enumerate(rows(count, seed), start=1):
            writer.writerow(row)
            if every and number % every == 0:
                file.write(_WRONG[number // every % len(_WRONG)].format(f"w-{number}") + "\r\n")


def _id_number(digits: str) -> str:
    return digits + "10X98765432"[sum(int(d) * w for d, w in zip(digits, _WEIGHTS, strict=True)) % 11]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("count", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wrong", type=int, default=0, help="rows that are wrong")
    given = parser.parse_args()
    write(given.file, given.count, given.seed, given.wrong)


if __name__ == "__main__":
    main()
