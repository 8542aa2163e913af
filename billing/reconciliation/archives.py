"""The archive's files against what is kept of them, and against the records that their uses made.

The files are read here anew, in the plainest way: nothing is asked of the code that wrote them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from billing.models import ArchivedUsageKey, MeteringRecord, UsageArchive, UsageEvent
from billing.reconciliation import split
from billing.reconciliation.breach import Breach
from billing.reconciliation.exact import millionths, plain
from billing.reconciliation.reading import Tags

_AT_ONCE = 500

# By organization, dimension, day, disposition: quantity and count.
Sums = dict[tuple[int, int, date, str], list[int]]


def check(folder: Path) -> Iterator[Breach]:
    """Every breach, archive by archive, and then what no archive accounts for."""
    count, names = 0, set()
    for archive in UsageArchive.objects.order_by("agreement_id", "month", "pk").iterator(chunk_size=2000):
        names.add(archive.name)
        count += archive.event_count
        yield from _Check(archive, folder).findings()
    keys = ArchivedUsageKey.objects.count()
    if keys != count:
        yield Breach(
            "archive_keys", "keys are kept that no archive accounts for", expected=str(count), found=str(keys)
        )
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.is_file() and path.relative_to(folder).as_posix() not in names:
            text = (
                f"{path.relative_to(folder)} is no archive: a run that died left it, or newer rows are lost"
            )
            yield Breach("archive_file", text, is_information=True)


@dataclass(slots=True)
class _Check:
    archive: UsageArchive
    folder: Path
    count: int = 0
    sums: Sums = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    tagged: dict[int, dict[Tags, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    dimensions: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))  # of each record

    def findings(self) -> Iterator[Breach]:
        path = self.folder / self.archive.name
        try:
            found = _sha256(path)
        except OSError as error:
            yield self.breach("archive_file", f"it cannot be read: {error.strerror}")
            return
        if found != self.archive.sha256:
            yield self.breach("archive_file", "it was changed", expected=self.archive.sha256, found=found)
            return
        totals = {
            pk: tuple(place)
            for pk, *place in self.archive.totals.values_list(
                "pk", "organization_id", "dimension_id", "day", "disposition"
            )
        }
        with gzip.open(path, "rt", encoding="ascii") as lines:
            head = json.loads(next(lines))
            if head["agreement"] != self.archive.agreement_id:
                yield self.breach("archive_file", "it is of another agreement", found=str(head["agreement"]))
            uses = (dict(zip(head["columns"], json.loads(line), strict=True)) for line in lines)
            while portion := list(islice(uses, _AT_ONCE)):
                yield from self._keys(portion, totals)
                self._add(portion)
        yield from self._totals()
        yield from self._records()

    def _add(self, uses: Sequence[dict[str, Any]]) -> None:
        for use in uses:
            self.count += 1
            of = self.sums[_place(use)]
            of[0] += use["millionths"]
            of[1] += 1
            if use["record"] is not None:
                self.tagged[use["record"]][tuple(sorted(use["tags"].items()))] += use["millionths"]
                self.dimensions[use["record"]].add(use["dimension"])

    def _keys(self, uses: Sequence[dict[str, Any]], totals: dict[int, Any]) -> Iterator[Breach]:
        pks = [use["id"] for use in uses]
        kept = {key.pk: key for key in ArchivedUsageKey.objects.filter(pk__in=pks)}
        for use in uses:
            key = kept.get(use["id"])
            told = f"[{json.dumps(use['name'])}, {use['millionths']}, {_pairs(use['tags'])}]"
            if key is None or (
                key.organization_id,
                key.digest,
                key.content,
                key.occurred_at,
                totals.get(key.total_id),
            ) != (
                use["organization"],
                _digest(use["key"]),
                _digest(told),
                datetime.fromisoformat(use["occurred_at"]),
                _place(use),
            ):
                yield self.breach("archive_keys", f"use {use['id']} has another key, or none")
        for pk in UsageEvent.objects.filter(pk__in=pks).order_by("pk").values_list("pk", flat=True):
            yield self.breach("archive_keys", f"use {pk} is archived, and is in the database too")

    def _totals(self) -> Iterator[Breach]:
        kept = {
            (total.organization_id, total.dimension_id, total.day, total.disposition): [
                millionths(total.quantity),
                total.event_count,
            ]
            for total in self.archive.totals.all()
            if total.agreement_id == self.archive.agreement_id
        }
        if kept != dict(self.sums) or self.count != self.archive.event_count:
            yield self.breach(
                "archive_totals",
                "its totals are not what its uses add up to",
                expected=_words(self.sums, self.count),
                found=_words(kept, self.archive.event_count),
            )

    def _records(self) -> Iterator[Breach]:
        pks = list(self.tagged)
        found: dict[int, MeteringRecord] = {}
        for start in range(0, len(pks), _AT_ONCE):
            rows = MeteringRecord.objects.select_related("dimension")
            found |= rows.in_bulk(pks[start : start + _AT_ONCE])
        for pk, tagged in self.tagged.items():
            record, used = found.get(pk), sum(tagged.values())
            if record is None or record.agreement_id != self.archive.agreement_id:
                yield self.breach("misplaced_event", f"{plain(used)} used stand in record {pk} of another")
                continue
            if self.dimensions[pk] != {record.dimension_id}:
                yield self.breach("misplaced_event", "uses of another dimension stand in it", record)
            if millionths(record.used) != used:
                yield self.breach(
                    "used",
                    f"its archived uses add up to {plain(used)}, it says {plain(millionths(record.used))}",
                    record,
                    expected=plain(used),
                    found=plain(millionths(record.used)),
                )
            if wrong := split.wrong(record.wire_allocations, tagged, millionths(record.quantity)):
                yield self.breach("allocations", wrong, record)

    def breach(self, kind: str, text: str, record: MeteringRecord | None = None, **values: Any) -> Breach:
        where: dict[str, Any] = {"agreement": self.archive.agreement_id}
        if record is not None:
            where |= {"dimension": record.dimension.key, "hour": record.hour, "record": record.pk}
        return Breach(kind, f"{self.archive.name}: {text}", **where, **values)


def _place(use: dict[str, Any]) -> tuple[int, int, date, str]:
    return use["organization"], use["dimension"], date.fromisoformat(use["at"][:10]), use["disposition"]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(text: str) -> uuid.UUID:
    return uuid.UUID(hashlib.sha256(text.encode()).hexdigest()[:32])


def _pairs(tags: dict[str, str]) -> str:
    return json.dumps([[name, tags[name]] for name in sorted(tags)])


def _words(sums: Any, count: int) -> str:
    return f"{count} uses, {plain(sum(amount for amount, _ in sums.values()))} in {len(sums)} totals"
