"""Many uses at once: `record_many`. What is accepted commits together; a refused one fails no other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import count, islice
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone

from accounts.models import Organization
from billing.archiving.archived_keys import Kept
from billing.aws.limits import MAX_DIMENSION_LENGTH, MAX_QUANTITY
from billing.models import Agreement
from billing.recording import bulk_store, rules
from billing.recording.bulk_store import Content, Name, Told
from billing.recording.payers import Candidates, Payers, Place
from billing.recording.rules import UsageRefused
from billing.spool import Spool, can_be_kept

CHUNK = 10_000  # uses in memory at a time
_TOO_LARGE = 2**63  # for an id
_number = attrgetter("number")
_NO_TAGS: tuple[Mapping[str, str], str] = ({}, "{}")


class Use(NamedTuple):
    """What `record` is told of one use. Organization and agreement may be given by their ids."""

    organization: Organization | int
    dimension: str
    quantity: Decimal | int | str
    key: str
    tags: Mapping[str, str] | None = None
    occurred_at: datetime | None = None
    agreement: Agreement | int | None = None


class Refusal(NamedTuple):
    number: int  # of the row, from 1
    row: Any  # as it was given; its text where it cannot be kept
    reason: str  # in the words of `record`


class KnownUse(NamedTuple):
    number: int
    organization_id: int
    key: str


@dataclass(frozen=True, slots=True)
class Report:
    """What became of each row. Sized and readable as often as wanted, however many there were."""

    accepted: Counter[str] = field(default_factory=Counter)  # by disposition
    known: Spool[KnownUse] = field(default_factory=Spool)  # recorded before, with the same content
    refused: Spool[Refusal] = field(default_factory=Spool)


def record_many(
    rows: Iterable[Use | Mapping[str, Any]], *, now: datetime | None = None, dry_run: bool = False
) -> Report:
    """Record each row as `record` would, in order. Rows are Uses, or mappings with the same names.

    Takes any iterable, of any length, in constant memory. Nothing is stored if ``rows`` itself raises. With
    ``dry_run`` nothing is stored at all, and a key that comes twice is noticed within ``CHUNK`` rows only.
    Two calls that share keys in another order may deadlock: the database fails one, which may be repeated.
    """
    now = now or timezone.now()
    report = Report()
    rest, first = iter(rows), 1
    with transaction.atomic():
        while chunk := list(islice(rest, CHUNK)):
            _record_chunk(chunk, report, first=first, now=now, dry_run=dry_run)
            first += len(chunk)
    return report


def _record_chunk(chunk: Sequence[Any], report: Report, *, first: int, now: datetime, dry_run: bool) -> None:
    fresh: dict[Name, Told] = {}
    again: list[Told] = []  # under a name that came before in this chunk
    unpayable: list[tuple[Told, str]] = []
    answers: list[Refusal | KnownUse] = []
    uses = list(_uses(chunk, first, answers))
    place = _Placing({pk for use in uses if use and isinstance(pk := use[0], int)}, now=now).place
    for number, given, use in zip(count(first), chunk, uses, strict=False):
        if use is None:
            continue
        try:
            told = _well_formed(number, given, use, now)
        except UsageRefused as refused:
            answers.append(_refusal(number, given, refused))
            continue
        if told.name in fresh:
            again.append(told)
            continue
        try:
            told.place = place(use, told)
        except UsageRefused as refused:
            unpayable.append((told, str(refused)))
        else:
            fresh[told.name] = told
    # Before anything is stored: the same key may have come after.
    known = bulk_store.known([told.name for told, _ in unpayable])
    for told, reason in unpayable:
        answers.append(_answer(told, known.get(told.name), reason))
    known = bulk_store.known(list(fresh)) if dry_run else bulk_store.store(list(fresh.values()), now=now)
    for told in fresh.values():
        if told.name in known:
            answers.append(_answer(told, known[told.name]))
        else:
            report.accepted[told.place.disposition] += 1
    for told in again:
        answers.append(_answer(told, known.get(told.name) or fresh[told.name].content))
    for answer in sorted(answers, key=_number):
        if isinstance(answer, KnownUse):
            report.known.append(answer)
        else:
            report.refused.append(answer)


def _answer(told: Told, known: Content | Kept | None, reason: str = "") -> Refusal | KnownUse:
    if known is None:
        return _refusal(told.number, told.given, reason)
    if told.repeats(known):
        return KnownUse(told.number, *told.name)
    return _refusal(told.number, told.given, rules.KeyReused(told.name[1]))


def _refusal(number: int, given: Any, reason: object) -> Refusal:
    return Refusal(number, given if can_be_kept(given) else repr(given), str(reason))


def _uses(chunk: Sequence[Any], first: int, answers: list[Refusal | KnownUse]) -> Iterator[Use | None]:
    """Each row as a Use of some organization, which becomes its id; None where it is no such thing."""
    for number, given in enumerate(chunk, first):
        try:
            use = given if type(given) is Use else _use(given)
            pk = use[0]
            if type(pk) is not int or not 0 < pk < _TOO_LARGE:
                use = use._replace(organization=_id(Organization, pk))
        except UsageRefused as refused:
            answers.append(_refusal(number, given, refused))
            yield None
        else:
            yield use


def _use(row: object) -> Use:
    if isinstance(row, Use):
        return row
    if not isinstance(row, Mapping):
        raise UsageRefused("row: give a Use, or a mapping with its names.")
    names = set(row)
    unknown, missing = names - set(Use._fields), set(Use._fields) - set(Use._field_defaults) - names
    if unknown or missing:
        raise UsageRefused(
            f"row: has no {min(missing)!r}." if missing else f"row: {unknown.pop()!r} is unknown."
        )
    return Use(**row)


def _id(model: type[Organization] | type[Agreement], given: Any) -> int:
    pk = given.pk if isinstance(given, model) else given
    if type(pk) is not int or not 0 < pk < _TOO_LARGE:
        raise UsageRefused(f"{model._meta.model_name}: give one, or its id.")
    return pk


def _well_formed(number: int, given: Any, use: Use, now: datetime) -> Told:
    """The same checks as `record`, each with a short cut for what is plainly right."""
    organization, dimension, quantity, key, tags, occurred_at, _ = use
    if type(key) is not str or not 0 < len(key) <= rules.MAX_KEY_LENGTH or not key.isascii() or "\x00" in key:
        rules.check_key(key)
    if type(dimension) is not str or not dimension.isidentifier() or len(dimension) > MAX_DIMENSION_LENGTH:
        rules.check_dimension(dimension)
    if type(quantity) is int and 0 <= quantity < MAX_QUANTITY:
        millionths = quantity * 1_000_000
    else:
        millionths = _millionths(quantity)
    labels, text = _NO_TAGS if not tags else _tags(tags)
    instant = now if occurred_at is None else occurred_at
    if type(instant) is not datetime or instant.tzinfo is not UTC or not rules.SINCE < instant <= now:
        rules.check_instant(instant, now=now)
    assert isinstance(organization, int)
    name = (organization, key)
    return Told(number, given, name, dimension, millionths, labels, occurred_at, instant, text)


def _millionths(quantity: Any) -> int:
    return int(rules.quantity_of(quantity).scaleb(6))


def _tags(tags: Any) -> tuple[Mapping[str, str], str]:
    if type(tags) is dict and all(type(value) is str for value in tags.values()):
        return _known_tags(tuple(tags.items()))
    labels = rules.tags_of(tags)
    return labels, json.dumps(labels)


@lru_cache(maxsize=10_000)
def _known_tags(items: tuple[tuple[str, str], ...]) -> tuple[Mapping[str, str], str]:
    """The same few sets of tags come again and again."""
    labels = rules.tags_of(dict(items))
    return labels, json.dumps(labels)


class _Placing:
    """Where uses go, as what their organizations bought was when the chunk began."""

    def __init__(self, organizations: Collection[int], *, now: datetime) -> None:
        self._payers = Payers(organizations, now=now)
        self._candidates: dict[tuple[int, str, int | None], Candidates | str] = {}  # or why there are none

    def place(self, use: Use, told: Told) -> Place:
        agreement = use.agreement
        if agreement is not None:
            agreement = _id(Agreement, agreement)
        asked = (told.name[0], told.dimension, agreement)
        found = self._candidates.get(asked)
        if found is None:
            found = self._candidates[asked] = self._look(*asked)
        if isinstance(found, str):
            raise UsageRefused(found)
        return found.place(told.instant)

    def _look(self, organization: int, dimension: str, agreement: int | None) -> Candidates | str:
        try:
            return self._payers.candidates(organization, dimension, agreement)
        except UsageRefused as refused:
            return str(refused)
