"""Parts of the front page: figures on cards, rows by state in tables, each a link to what it counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, PermissionsMixin
from django.core.cache import cache
from django.db.models import Model
from django.db.models.enums import TextChoices
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.translation import gettext as _

from billing.admin.columns import label, list_url

Words = str | Promise
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Figure:
    title: str
    value: str
    note: str
    url: str
    tone: str  # "danger", "warning", or "" when all is well


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Rows by state, those that need a person marked."""

    title: str
    table: dict[str, list[list[str]] | list[str]]
    note: str = ""


def may_see(user: AbstractBaseUser | AnonymousUser, model: str) -> bool:
    return isinstance(user, PermissionsMixin) and user.has_perm(f"billing.view_{model}")


def counted(title: str, count: int, note: str, url: str, tone: str) -> Figure:
    """A figure that is well when it is zero."""
    return Figure(title, grouped(count), note, url, tone if count else "")


def grouped(count: int) -> str:
    """With the separators of thousands that the reader's language has."""
    return number_format(count, use_l10n=True, force_grouping=True)


def linked_count(model: type[Model], count: int, **filters: str | int) -> str:
    return format_html('<a href="{}" class="text-link">{}</a>', list_url(model, **filters), grouped(count))


def by_state(
    model: type[Model],
    field: str,
    states: Iterable[TextChoices],
    counts: Mapping[str, int],
    tones: Mapping[str, str],
) -> list[list[str]]:
    """A row for each of ``states`` that something is in."""
    return [
        [
            label(state.label, tones.get(state, "")),
            linked_count(model, counts[state], **{f"{field}__exact": state}),
        ]
        for state in states
        if counts.get(state)
    ]


def duration(length: timedelta) -> str:
    hours, minutes = divmod(int(length.total_seconds()) // 60, 60)
    if hours:
        return _("%(hours)s h %(minutes)s min") % {"hours": hours, "minutes": f"{minutes:02d}"}
    return _("%(minutes)s min") % {"minutes": minutes}


def remembered(name: str, read: Callable[[], Found], *, now: datetime, length: timedelta) -> Found:
    """What ``read`` gives, read again when it is ``length`` old: for sums of many rows."""
    key = f"console:{name}"
    kept: tuple[datetime, Any] | None = cache.get(key)
    if kept is not None and timedelta(0) <= now - kept[0] < length:
        found: Found = kept[1]
        return found
    found = read()
    cache.set(key, (now, found), length.total_seconds())
    return found
