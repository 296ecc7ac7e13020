"""A draw's document as the ledger keeps it, and the steps on it that take long; each runs beside the event loop.

A million entries are ten seconds of a processor and half a gigabyte: they are worked out in a process of their own, so
that a rush in this one goes on, and the memory is given back.
"""

import asyncio
import gc
import gzip
import json
import multiprocessing
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from typing import NamedTuple, TypeVar

from engine.bounds import DRAW_ENTRIES_HERE_MAX, DRAW_PAGE_ENTRIES
from engine.draws import publication, verify
from engine.draws.model import DrawAltered
from engine.draws.publication import BeaconValue, DrawInvalid, Entrant
from engine.draws.verify import Json

T = TypeVar("T")


class Page(NamedTuple):
    """Entries that follow each other; the root of their branch of the tree."""

    first: str
    root: bytes
    entries: bytes


class Published(NamedTuple):
    """What the ledger is told of a document: as packed, and the anchors by which it is known again."""

    document: bytes
    commitment: str
    root: str | None = None


class Closed(NamedTuple):
    published: Published
    entrants: int
    pages: list[Page]


class Revealed(NamedTuple):
    published: Published
    winners: list[list[str]]  # entrant and prize, in the order drawn
    waiting: list[str]


async def beside(rows: int, step: Callable[..., T], *arguments: object) -> T:
    """What a step answers that works on so many rows; raises what it raises."""
    if rows <= DRAW_ENTRIES_HERE_MAX:
        return await asyncio.to_thread(step, *arguments)
    loop, spawned = asyncio.get_running_loop(), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawned, initializer=gc.disable) as process:  # rows are no garbage
        return await loop.run_in_executor(process, step, *arguments)


def pack(document: Json) -> bytes:
    """The document as it is published, in one spelling, gzipped; the same document is the same bytes."""
    return gzip.compress(verify.canonical(document), compresslevel=6, mtime=0)


def unpack(found: Published) -> Json:
    """A document out of the ledger; raises `DrawAltered` where it is not the one that was written down."""
    try:
        document = json.loads(gzip.decompress(found.document))
        told = document["commitment"], document.get("closed", {}).get("root")
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
        raise DrawAltered(f"the draw's document in the ledger cannot be read ({type(error).__name__})") from None
    if told != (found.commitment, found.root):
        raise DrawAltered("the draw's document in the ledger has another commitment or root than was published")
    return document  # type: ignore[no-any-return]


def close(found: Published, entrants: Sequence[Sequence[object]], at: datetime) -> Closed:
    """`publication.close` on a packed document; `entrants` are name, misses and points of each."""
    document = publication.close(unpack(found), (Entrant(*each) for each in entrants), at)  # type: ignore[arg-type]
    closed = document["closed"]
    published = Published(pack(document), document["commitment"], closed["root"])
    return Closed(published, closed["count"], _pages(closed["entries"]))


def reveal(found: Published, secret: bytes, beacon: BeaconValue) -> Revealed:
    """`publication.reveal` on a packed document; on one that is revealed, only for the same value."""
    document = publication.reveal(unpack(found), secret, beacon)
    revealed = document["revealed"]
    published = Published(pack(document), document["commitment"], document["closed"]["root"])
    return Revealed(published, revealed["winners"], revealed["waiting"])


def _pages(entries: Sequence[Sequence[object]]) -> list[Page]:
    pages = []
    for at in range(0, len(entries), DRAW_PAGE_ENTRIES):
        part = entries[at : at + DRAW_PAGE_ENTRIES]
        packed = zlib.compress(verify.canonical(part))
        pages.append(Page(str(part[0][0]), verify.levels([verify.leaf(entry) for entry in part])[-1][0], packed))
    return pages


def proof(draw: Json, number: int, entries: bytes, roots: Sequence[bytes], entrant: str) -> Json:
    """An entrant's inclusion proof from the page that it is on, and the roots of all pages.

    `draw` holds draw, commitment, count and root. Raises `DrawInvalid` for who is not on the page.
    """
    part = json.loads(zlib.decompress(entries))
    place = next((place for place, entry in enumerate(part) if entry[0] == entrant), None)
    if place is None:
        raise DrawInvalid(f"{verify.show(entrant)} is not among the entrants", field="entrant")
    branch = verify.inclusion_path(verify.levels([verify.leaf(entry) for entry in part]), place)
    trunk = verify.inclusion_path(verify.levels(list(roots)), number)
    return {
        "format": verify.PROOF,
        **draw,
        "index": number * DRAW_PAGE_ENTRIES + place,
        "entry": part[place],
        "path": [beside.hex() for beside in branch + trunk],
    }
