"""Filters of lists that stay fast at millions of rows: by time, product, state of record."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model, Q, QuerySet
from django.db.models.fields import DateTimeField
from django.http import HttpRequest
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin

from billing.models import Dimension, MeteringRecord, Product

_SETTLED = (MeteringRecord.State.ACCEPTED, MeteringRecord.State.NOT_DUE)


class Between(admin.FieldListFilter):
    """From an instant on, before another: in UTC, either may be left out. A link names them the same way."""

    template = "admin/billing/filter_between.html"

    def __init__(
        self,
        field: DateTimeField,
        request: HttpRequest,
        params: dict[str, list[str]],
        model: type[Model],
        model_admin: ModelAdmin,
        field_path: str,
    ) -> None:
        self.since_name, self.before_name = f"{field_path}__gte", f"{field_path}__lt"
        super().__init__(field, request, params, model, model_admin, field_path)
        self.request = request

    def expected_parameters(self) -> list[str | None]:
        return [self.since_name, self.before_name]

    def bounds(self) -> dict[str, datetime]:
        """The instants asked for, by lookup."""
        told = cast(dict[str, list[str]], self.used_parameters)
        asked = {name: str(values[-1]).strip() for name, values in told.items() if values}
        return {name: instant_of(text) for name, text in asked.items() if text}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**self.bounds())

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        try:
            bounds = self.bounds()
        except IncorrectLookupParameters:
            bounds = {}
        kept = [
            (name, value)
            for name, values in self.request.GET.lists()
            for value in values
            if name not in (self.since_name, self.before_name, "p", "e")
        ]
        yield {
            "selected": bool(bounds),
            "display": "",
            "query_string": "",
            "kept": kept,
            "clear": changelist.get_query_string(remove=[self.since_name, self.before_name]),
            "ends": [
                {"name": name, "label": label, "value": _for_input(bounds.get(name))}
                for name, label in (
                    (self.since_name, _("From (UTC)")),
                    (self.before_name, _("Before (UTC)")),
                )
            ],
        }


def instant_of(text: str) -> datetime:
    """An instant as a browser or a link writes it: what names no zone is UTC, a date is its midnight."""
    try:
        instant = parse_datetime(text)
        day = parse_date(text) if instant is None else None
    except ValueError as error:
        raise IncorrectLookupParameters(error) from error
    if day is not None:
        instant = datetime.combine(day, time())
    if instant is None:
        raise IncorrectLookupParameters(text)
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def _for_input(instant: datetime | None) -> str:
    return "" if instant is None else f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M}"


class OfSubmissionTime(Between):
    """Lines by the time of their call, through the calls' numbers: those rise with time, and lines are
    indexed by them."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        calls = self.field.model._default_manager.order_by("started_at")
        bounds = {name.removeprefix("submission__"): at for name, at in self.bounds().items()}
        if not bounds:
            return queryset
        found = calls.filter(**bounds)
        first, last = found.first(), found.last()
        if first is None or last is None:
            return queryset.none()
        return queryset.filter(submission__gte=first.pk, submission__lte=last.pk)


class OfProduct(admin.SimpleListFilter):
    """Rows of a product, through its few dimensions: the planner knows how many rows each has."""

    title = _("product")
    parameter_name = "product"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        return [(product.pk, product.title) for product in Product.objects.all()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        if not value.isdecimal():
            raise IncorrectLookupParameters(value)
        dimensions = Dimension.objects.filter(product=int(value)).values_list("pk", flat=True)
        return queryset.filter(dimension__in=list(dimensions))


class OfRecordState(admin.FieldListFilter):
    """Records by state, one or several; states are grouped as the partial indexes have them."""

    def __init__(
        self,
        field: Any,
        request: HttpRequest,
        params: dict[str, list[str]],
        model: type[Model],
        model_admin: ModelAdmin,
        field_path: str,
    ) -> None:
        self.one, self.several = f"{field_path}__exact", f"{field_path}__in"
        super().__init__(field, request, params, model, model_admin, field_path)

    def expected_parameters(self) -> list[str | None]:
        return [self.one, self.several]

    def asked(self) -> set[str]:
        """The states that are asked for; what is none is passed by."""
        told = [
            name
            for values in cast(dict[str, Any], self.used_parameters).values()
            for value in values
            for name in (value if isinstance(value, list) else str(value).split(","))
        ]
        return set(told)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        asked = self.asked()
        if not self.used_parameters:
            return queryset
        groups = (MeteringRecord.SENDABLE, MeteringRecord.UNUSUAL, _SETTLED)
        chosen = [[state for state in group if state in asked] for group in groups]
        return queryset.filter(
            Q(*(Q((self.several, states)) for states in chosen if states), _connector=Q.OR)
            if any(chosen)
            else Q(pk__in=[])
        )

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        asked = self.asked()
        mine = [self.one, self.several]
        unsettled = ",".join(MeteringRecord.UNSETTLED)
        yield {
            "selected": not asked,
            "query_string": changelist.get_query_string(remove=mine),
            "display": _("All"),
        }
        yield {
            "selected": asked == set(MeteringRecord.UNSETTLED),
            "query_string": changelist.get_query_string({self.several: unsettled}, [self.one]),
            "display": _("Not sent yet"),
        }
        for state in MeteringRecord.State:
            yield {
                "selected": asked == {state},
                "query_string": changelist.get_query_string({self.one: state}, [self.several]),
                "display": state.label,
            }
