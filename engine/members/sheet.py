"""Reads a CSV of any length row by row: UTF-8 with or without a mark, and says clearly what else a file is.

A row's number is the one that a spreadsheet shows: the heading is row 1, and a row with line ends in a cell is one.
"""

import codecs
import csv
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from engine.errors import Invalid
from engine.members.attributes import nearest
from engine.members.id_number import without_numbers

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}


class SheetInvalid(Invalid):
    """A file of which no row can be read; nothing was changed by it."""

    code: ClassVar[str] = "sheet-invalid"


class Reject(NamedTuple):
    """What keeps a row out: its number, the column, what is wrong, and what to do."""

    row: int
    field: str
    wrong: str
    advice: str


class Sheet:
    """An opened file: `columns` as its heading names them; iterated once, it gives numbers and cells of its rows."""

    def __init__(self, path: Path, known: Sequence[str], needed: Collection[str]) -> None:
        """Raises `SheetInvalid`; `needed` are columns of which one must be there."""
        self._path = path
        try:
            self._file = path.open("rb")
            self.size_bytes = max(1, path.stat().st_size)
        except OSError as error:
            raise SheetInvalid(f"{path}: {error.strerror}") from None
        self._text = io.TextIOWrapper(self._file, encoding="utf-8-sig", newline="")
        self._check_encoding()
        self._rows = enumerate(self._read(csv.reader(self._text, strict=True)), start=1)
        _, heading = next(self._rows, (1, []))
        self.columns = self._named(heading, known, needed)

    @property
    def share(self) -> float:
        """How much of the file was read, from 0 to 1."""
        return min(1.0, self._file.tell() / self.size_bytes)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        for number, cells in self._rows:
            if any(cells):
                yield number, [cell.strip() for cell in cells]

    def close(self) -> None:
        self._text.close()

    def _read(self, rows: "Iterator[list[str]]") -> Iterator[list[str]]:
        try:
            yield from rows
        except csv.Error as error:
            line = getattr(rows, "line_num", 0)
            raise self._refused(f"line {line}: is no CSV ({error}): a quotation mark may not be closed") from None
        except UnicodeDecodeError as error:
            raise self._refused(_encoding_of(error.object)) from None

    def _check_encoding(self) -> None:
        head = self._file.read(4)
        self._file.seek(0)
        if head.startswith(_UTF_16):
            raise self._refused("is UTF-16, as Excel saves “Unicode text”: save it as “CSV UTF-8”")
        if head.startswith(b"PK\x03\x04"):
            raise self._refused("is a workbook: open it in Excel and save it as “CSV UTF-8”")

    def _named(self, heading: Sequence[str], known: Sequence[str], needed: Collection[str]) -> list[str]:
        names = [name.strip() for name in heading]
        if not any(names):
            raise self._refused(f"has no heading in row 1: name the columns, of {', '.join(known)}")
        for sign, word in _OTHER_SEPARATORS.items():
            if len(names) == 1 and sign in names[0]:
                raise self._refused(f"row 1: columns are separated by {word}: separate them by commas")
        for name in names:
            if name not in known:
                shown = without_numbers(name)[:40]
                raise self._refused(f"row 1: unknown column {shown!r}{nearest(name, list(known))}")
            if names.count(name) > 1:
                raise self._refused(f"row 1: the column {name!r} stands twice")
        if not set(names) & set(needed):
            raise self._refused(f"row 1: there is no column {' or '.join(needed)}")
        return names

    def _refused(self, problem: str) -> SheetInvalid:
        self.close()
        return SheetInvalid(f"{self._path}: {problem}")


def _encoding_of(data: bytes) -> str:
    """What a text is that is not UTF-8."""
    try:
        codecs.getincrementaldecoder("gb18030")().decode(data)
    except UnicodeDecodeError:
        return "is not UTF-8: save it as “CSV UTF-8”"
    return "is not UTF-8, it looks like GBK, as Excel saves “CSV”: save it as “CSV UTF-8”, or `iconv -f GBK -t UTF-8`"
