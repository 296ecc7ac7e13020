"""Organisations as a file: YAML, a list of them, or CSV with a heading; `dongguan.yaml` beside this file is ours."""

import csv
import io
from pathlib import Path
from typing import Any

import yaml

from engine.bounds import FAULTS_TOLD_MAX, ORGANISATIONS_FILE_BYTES_MAX
from engine.definitions import StrictLoader
from engine.members.attributes import nearest
from engine.organisations.model import Fault, Organisation, invalid, parsed
from engine.towns import Towns

DONGGUAN = Path(__file__).with_name("dongguan.yaml")
COLUMNS = ("id", "parent", "kind", "zh", "en", "town")


def read(path: Path, towns: Towns) -> list[tuple[str, Organisation]]:
    """The organisations of a file, each with its place there. Raises `OrganisationInvalid` with every fault."""
    text = _text(path)
    rows = _of_csv(text, path.name) if path.suffix.lower() == ".csv" else _of_yaml(text, path.name)
    found: list[tuple[str, Organisation]] = []
    faults: list[Fault] = []
    for place, row in rows:
        organisation, wrong = parsed(row, place, towns)
        faults += wrong
        if organisation is not None:
            found.append((place, organisation))
        if len(faults) >= FAULTS_TOLD_MAX:
            break
    if faults:
        raise invalid(path.name, faults)
    if not found:
        raise invalid(path.name, [("file", "holds no organisation")])
    return found


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > ORGANISATIONS_FILE_BYTES_MAX:
            raise invalid(path.name, [("file", f"is larger than {ORGANISATIONS_FILE_BYTES_MAX} bytes")])
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise invalid(path.name, [("file", str(error.strerror))]) from None
    except UnicodeDecodeError as error:
        raise invalid(path.name, [("file", f"is not UTF-8 (byte {error.start}): save it as UTF-8")]) from None


def _of_yaml(text: str, name: str) -> list[tuple[str, Any]]:
    try:
        data = yaml.load(text, Loader=StrictLoader)  # noqa: S506 (a subclass of SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise invalid(name, [("file", f"is not YAML: {str(error)[:300]}")]) from None
    if not isinstance(data, list):
        raise invalid(name, [("file", "expected a list of organisations, as in engine/organisations/dongguan.yaml")])
    return [(str(number), row) for number, row in enumerate(data, start=1)]


def _of_csv(text: str, name: str) -> list[tuple[str, Any]]:
    try:
        heading, *lines = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
    except csv.Error as error:
        raise invalid(name, [("file", f"is not CSV: {error}")]) from None
    names = [column.strip() for column in heading]
    unknown = [column for column in names if column not in COLUMNS]
    if unknown or len(set(names)) < len(names):
        wrong = (
            f"unknown column {unknown[0][:40]!r}{nearest(unknown[0], COLUMNS)}" if unknown else "a column stands twice"
        )
        raise invalid(name, [("row 1", wrong)])
    rows = []
    for number, line in enumerate(lines, start=2):
        if any(cell.strip() for cell in line):
            rows.append(
                (f"row {number}", _row(dict(zip(names, line, strict=False)) if len(line) <= len(names) else None))
            )
    return rows


def _row(cells: dict[str, str] | None) -> dict[str, Any] | None:
    """A row as YAML would have it; None, which is no organisation, for one with more cells than the heading."""
    if cells is None:
        return None
    given = {name: cell.strip() for name, cell in cells.items() if cell.strip()}
    title = {language: given.pop(language) for language in ("zh", "en") if language in given}
    return {**given, "title": title}
