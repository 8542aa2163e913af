"""`{{ figures.used|quantity }}`: exact, without needless zeros, as the reader writes numbers."""

from __future__ import annotations

from decimal import Decimal

from django import template
from django.utils.formats import number_format
from django.utils.translation import gettext as _

register = template.Library()


@register.filter
def quantity(value: Decimal | float | bool | str | None) -> str:
    """Also of an entitlement, which may be a switch or a word."""
    match value:
        case None:
            return "–"
        case bool():
            return _("Yes") if value else _("No")
        case str():
            return value
        case float():
            value = Decimal(repr(value))  # the shortest text that means it
    return number_format(Decimal(value).normalize(), use_l10n=True, force_grouping=True)
