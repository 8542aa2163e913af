"""Files of archived usage: gzipped JSON lines, the agreement first, then one use to a line.

The same uses make the same bytes and the same name, so making a file again after a crash changes nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings

FORMAT = 1
_BLOCK = 1 << 20


class Archived(NamedTuple):
    """One use as its line tells it. ``at``: AWS's hour where a record bills it, else when it occurred."""

    id: int
    organization: int
    dimension: int
    name: str  # the dimension's key
    millionths: int
    occurred_at: datetime
    recorded_at: datetime
    key: str
    tags: dict[str, str]
    disposition: str
    record: int | None
    at: datetime

    @property
    def day(self) -> date:
        return self.at.astimezone(UTC).date()


@dataclass(frozen=True, slots=True)
class File:
    name: str  # below USAGE_ARCHIVE_DIR
    sha256: str
    size: int
    count: int


class FileUnusable(Exception):
    """It is not there, or not what was written."""


def folder() -> Path:
    return Path(settings.USAGE_ARCHIVE_DIR)


def write(head: dict[str, Any], uses: Iterable[Archived], *, prefix: str) -> File:
    """Write a file that is named after its content, once it is whole and on the disk."""
    unfinished = folder() / f"{prefix}-{uuid.uuid4().hex[:8]}.unfinished"
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with unfinished.open("wb") as raw:
        # Without a name and a time in it: equal content is equal bytes.
        with gzip.GzipFile("", "wb", fileobj=raw, mtime=0, compresslevel=6) as packed:
            text = io.TextIOWrapper(packed, "ascii", newline="\n")
            text.write(json.dumps({"format": FORMAT, **head}) + "\n")
            for one in uses:
                text.write(json.dumps(one, default=_instant) + "\n")
                count += 1
            text.flush()
        raw.flush()
        os.fsync(raw.fileno())
    sha256 = digest(unfinished)
    path = folder() / f"{prefix}-{sha256[:16]}.jsonl.gz"
    unfinished.rename(path)
    for parent in (path.parent, path.parent.parent):
        _to_disk(parent)
    return File(path.relative_to(folder()).as_posix(), sha256, path.stat().st_size, count)


def read(name: str, *, sha256: str) -> Iterator[Archived]:
    """The uses of a file that is what it was. Raises FileUnusable, before the first of them if it is not."""
    path = folder() / name
    try:
        found = digest(path)
        if found != sha256:
            raise FileUnusable(f"{name} was changed: its SHA-256 is {found}, not {sha256}")
        with gzip.open(path, "rt", encoding="ascii") as lines:
            told = json.loads(next(lines))
            if told.get("format") != FORMAT:
                raise FileUnusable(f"{name} has the format {told.get('format')}, not {FORMAT}")
            for line in lines:
                yield _archived(json.loads(line))
    except (OSError, EOFError, ValueError, TypeError, StopIteration) as error:
        raise FileUnusable(f"{name} cannot be read: {error}") from error


def digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def _archived(told: list[Any]) -> Archived:
    one = Archived(*told)
    occurred_at, recorded_at, at = (datetime.fromisoformat(text) for text in (told[5], told[6], told[11]))
    return one._replace(occurred_at=occurred_at, recorded_at=recorded_at, at=at)


def _instant(value: object) -> str:
    assert isinstance(value, datetime)
    return value.astimezone(UTC).isoformat()


def _to_disk(directory: Path) -> None:
    """A rename is on the disk when its directory is."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
