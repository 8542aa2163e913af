"""Whom and what the audit trail's ids mean, looked up when it is shown: the trail itself names nobody.

A page's links are looked up together, a query for each kind. Who may not see people sees their numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import Organization, User
from billing.admin import trail_words
from billing.admin.columns import PURCHASE, link, purchase, unbroken
from billing.admin.site import admin_site
from billing.models import (
    Agreement,
    AuditEvent,
    Dimension,
    MarketplaceEvent,
    MeteringRecord,
    Product,
    Registration,
    UsageEvent,
)

_LISTED = 10  # of many ids in one link

# What the ids under these names are of; those of _LOOKED_UP by their names, the others linked by number.
_KINDS: dict[str, type[Model]] = {
    "user": User,
    "users": User,
    "organization": Organization,
    "agreement": Agreement,
    "product": Product,
    "dimension": Dimension,
    "group": Group,
    "groups": Group,
    "permissions": Permission,
    "user_permissions": Permission,
    "records": MeteringRecord,
    "events": UsageEvent,
    "event": MarketplaceEvent,
    "applied": MarketplaceEvent,
    "registration": Registration,
}
_LOOKED_UP = (User, Organization, Agreement, Product, Dimension, Group, Permission)
_OF_STREAMS: tuple[tuple[str, type[Model]], ...] = (("agreement", Agreement), ("organization", Organization))
# An action under which a name means something else.
_OTHERWISE: dict[tuple[str, str], type[Model]] = {("transferred", "before"): Organization}


@dataclass(slots=True)
class Names:
    """What was found of each kind, by key, as far as the reader may see it."""

    hidden: frozenset[type[Model]] = frozenset()
    found: dict[type[Model], dict[int, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, links: Iterable[AuditEvent], request: HttpRequest) -> Names:
        wanted: dict[type[Model], set[int]] = defaultdict(set)
        for each in links:
            for kind, pks in _ids(each):
                wanted[kind].update(pks)
        hidden = frozenset(kind for kind in _kinds() if not _may_see(request, kind))
        names = cls(hidden)
        for kind in _LOOKED_UP:
            if wanted[kind] and kind not in hidden:
                rows: QuerySet[Any] = kind._default_manager.filter(pk__in=wanted[kind])
                if kind is Agreement:
                    rows = rows.select_related(*PURCHASE)
                names.found[kind] = {row.pk: row for row in rows}
        return names

    def show(self, kind: type[Model], pk: Any) -> str:
        """The thing as a link, or its number where there is nothing to lead to."""
        if not isinstance(pk, int) or isinstance(pk, bool):
            return trail_words.value(pk)
        number = _("%(kind)s %(number)d") % {"kind": kind._meta.verbose_name, "number": pk}
        if kind in self.hidden:
            return number
        if kind not in _LOOKED_UP:
            return link(kind(pk=pk), str(pk))
        row = self.found.get(kind, {}).get(pk)
        if row is None:
            return number
        if isinstance(row, Permission):
            return row.codename
        return link(row, purchase(row) if isinstance(row, Agreement) else str(row))


def actor(row: AuditEvent, names: Names) -> str:
    pk = _number(row.actor, "user")
    return unbroken(trail_words.actor(row.actor)) if pk is None else names.show(User, pk)


def subject(row: AuditEvent, names: Names) -> str:
    """What the stream is about."""
    for prefix, kind in _OF_STREAMS:
        pk = _number(row.stream, prefix)
        if pk is not None:
            return names.show(kind, pk)
    return {"staff": _("Staff"), "system": _("The site")}.get(row.stream, row.stream)


def details(row: AuditEvent, names: Names) -> str:
    """The data in words, one thing after the other."""
    told = [(trail_words.detail(name), _shown(row, name, given, names)) for name, given in row.data.items()]
    # In one element: on a narrow screen the parts of a cell would each be a column.
    return format_html("<span>{}</span>", format_html_join("; ", "{}: {}", told))


def _shown(row: AuditEvent, name: str, given: Any, names: Names) -> str:
    kind = _kind(row, name)
    if kind is None or (isinstance(given, int) and name in ("records", "events")):  # a count of them
        return trail_words.value(given)
    if not isinstance(given, list):
        return names.show(kind, given)
    shown = format_html_join(", ", "{}", ((names.show(kind, pk),) for pk in given[:_LISTED]))
    more = len(given) - _LISTED
    if more > 0:
        rest = ngettext("and %(count)d more", "and %(count)d more", more) % {"count": more}
        return format_html("{} {}", shown, rest)
    return shown or trail_words.value(given)


def _ids(row: AuditEvent) -> Iterable[tuple[type[Model], Sequence[int]]]:
    if (person := _number(row.actor, "user")) is not None:
        yield User, [person]
    for prefix, kind in _OF_STREAMS:
        if (pk := _number(row.stream, prefix)) is not None:
            yield kind, [pk]
    for name, given in row.data.items():
        named = _kind(row, name)
        if named is not None:
            pks = given[:_LISTED] if isinstance(given, list) else [given]
            yield named, [pk for pk in pks if isinstance(pk, int) and not isinstance(pk, bool)]


def _kind(row: AuditEvent, name: str) -> type[Model] | None:
    return _OTHERWISE.get((row.action, name), _KINDS.get(name))


def _kinds() -> set[type[Model]]:
    kinds: set[type[Model]] = {*_KINDS.values()}
    return kinds - {Permission}


def _may_see(request: HttpRequest, kind: type[Model]) -> bool:
    return bool(admin_site.get_model_admin(kind).has_view_permission(request))


def _number(text: str, prefix: str) -> int | None:
    """7 of "user:7"."""
    kind, _colon, number = text.partition(":")
    return int(number) if kind == prefix and number.isdecimal() and len(number) < 19 else None
