"""Cells of lists, read-only pages and panels: instants, quantities, badges, and links along the chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, cast

from django.contrib import admin
from django.db import models
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from billing.models import Agreement

Column = Callable[[Any], str]
Words = str | Promise

EMPTY = "–"
# What naming a purchase takes, from the agreement.
PURCHASE = ("product", "customer", "organization")


def stamp(value: datetime) -> str:
    """In UTC, sortable by eye; to the second, unless it is a whole minute."""
    pattern = "%Y-%m-%d %H:%M:%S" if value.second or value.microsecond else "%Y-%m-%d %H:%M"
    return value.astimezone(UTC).strftime(pattern)


def instant(value: datetime | None) -> str:
    """A stamp that never breaks over two lines."""
    if value is None:
        return EMPTY
    return format_html('<time class="whitespace-nowrap">{}</time>', stamp(value))


def unbroken(text: str) -> str:
    return format_html('<span class="whitespace-nowrap">{}</span>', text)


def purchase(agreement: Agreement | None) -> str:
    """An agreement as people speak of it: who bought what. The license id is on its page."""
    if agreement is None:
        return EMPTY
    return f"{agreement.organization or agreement.customer} · {agreement.product}"


def plain(quantity: Decimal | None) -> str:
    """Digits only: no exponent, no trailing zeros."""
    return EMPTY if quantity is None else f"{quantity.normalize():f}"


def list_url(model: type[models.Model], **filters: str | int) -> str:
    """The list of ``model``, filtered."""
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{address}?{urlencode(filters)}" if filters else address


def page_url(row: models.Model, **parameters: str | int) -> str:
    """The page of ``row``."""
    address = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return f"{address}?{urlencode(parameters)}" if parameters else address


def link(row: models.Model | None, text: str = "") -> str:
    """A link to the page of ``row``."""
    if row is None:
        return EMPTY
    return format_html('<a href="{}" class="text-link">{}</a>', page_url(row), text or str(row))


def dotted(text: str, colour: str, row: models.Model | None = None) -> str:
    """Text, linked to the page of ``row`` if there is one, after a dot of that colour."""
    dot = format_html('<span class="inline-block rounded-full h-2 w-2 mr-2 {}"></span>', colour)
    return format_html("<span>{}{}</span>", dot, link(row, text) if row is not None else text)


@lru_cache(maxsize=1024)  # a list shows the same few a hundred times
def label(text: str, tone: str = "") -> SafeString:
    """A coloured word; what stands in brackets is its title. Tones: success, info, warning, danger."""
    word = text.partition(" (")[0]
    return render_to_string("unfold/helpers/label.html", {"text": word, "label_title": text, "type": tone})


def block(text: str) -> str:
    """Text as it is, in a fixed-width block that wraps."""
    if not text:
        return EMPTY
    return format_html('<pre class="whitespace-pre-wrap break-words text-xs font-mono">{}</pre>', text)


def when(name: str, description: Words = "") -> Column:
    return _column(name, description, lambda row: instant(_follow(row, name)))


def quantity(name: str, description: Words = "") -> Column:
    return _column(name, description, lambda row: unbroken(plain(_follow(row, name))))


def linked(name: str, description: Words = "") -> Column:
    """The row that a foreign key points to, as a link. A list must select it: see ``list_select_related``."""
    return _column(name, description, lambda row: link(_follow(row, name)))


def bought(name: str = "agreement") -> Column:
    """An agreement, by buyer and product, as a link. A list must select those: see PURCHASE."""
    return _column(
        name,
        gettext_lazy("agreement"),
        lambda row: link(agreement := _follow(row, name), purchase(agreement)),
    )


def text(name: str, description: Words) -> Column:
    """A field under another name than its column's."""
    return _column(name, description, lambda row: _in_words(_follow(row, name)))


def choice(name: str, description: Words) -> Column:
    """A field with choices, in words."""
    return _column(name, description, lambda row: str(getattr(row, f"get_{name}_display")() or EMPTY))


def yes_no(name: str, description: Words) -> Column:
    """A field that is true, false, or not known."""
    words = {True: gettext_lazy("Yes"), False: gettext_lazy("No"), None: EMPTY}
    return _column(name, description, lambda row: str(words[_follow(row, name)]))


def badge(name: str, tones: Mapping[str, str], description: Words = "") -> Column:
    """A field with choices, in the colour of its value."""
    return _column(
        name,
        description,
        lambda row: label(str(getattr(row, f"get_{name}_display")()), tones.get(_follow(row, name), "")),
    )


def text_block(name: str, description: Words = "") -> Column:
    return _column(name, description, lambda row: block(_follow(row, name)))


def _column(name: str, description: Words, show: Column) -> Column:
    @admin.display(
        description=cast(str, description) or name.rpartition("__")[2].replace("_", " "), ordering=name
    )
    def column(row: Any) -> str:
        return show(row)

    column.__name__ = name
    return column


def _in_words(value: Any) -> str:
    return EMPTY if value is None or value == "" else str(value)


def _follow(row: Any, name: str) -> Any:
    for part in name.split("__"):
        row = getattr(row, part) if row is not None else None
    return row
