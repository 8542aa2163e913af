"""The rows of a list as a file: what its filters and search leave, streamed a chunk at a time.

Chunks follow each other by primary key: no cursor stays open while a slow browser reads; no row is counted.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import (
    HttpRequest,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.text import capfirst, slugify

from accounts.models import User
from billing import audit
from billing.admin.panels import WithPanels

_CHUNK = 2000
# What a spreadsheet takes for a formula, in the forms of East Asian keyboards too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_TEXTS = (models.TextField, models.JSONField)  # of any length: looked at on the row's own page

Row = tuple[Any, ...]


class WithExport(WithPanels):
    """A list that its readers may take away as CSV or JSON."""

    list_before_template = "admin/billing/list_tools.html"  # type: ignore[assignment]  # unfold declares None
    # The columns; none named: all of the row but long texts.
    export_fields: ClassVar[tuple[str, ...]] = ()
    # And what names the rows that it points to.
    export_more: ClassVar[tuple[str, ...]] = ()

    def get_urls(self) -> list[URLPattern]:
        exports = [
            path(
                f"export.{kind}",
                self.admin_site.admin_view(self.export_view),
                {"kind": kind},
                name=f"{self.opts.app_label}_{self.opts.model_name}_{kind}",
            )
            for kind in _WRITERS
        ]
        return [*exports, *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        asked = request.GET.copy()
        for name in ("p", "e"):
            asked.pop(name, None)
        names = {kind: f"admin:{self.opts.app_label}_{self.opts.model_name}_{kind}" for kind in _WRITERS}
        exports = [
            (kind.upper(), f"{reverse(name)}?{asked.urlencode()}".rstrip("?")) for kind, name in names.items()
        ]
        context: dict[str, Any] = {"title": capfirst(self.opts.verbose_name_plural), "exports": exports}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def export_view(self, request: HttpRequest, kind: str) -> HttpResponseBase:
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            rows = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters:
            changelist = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
            return HttpResponseRedirect(f"{changelist}?e=1")
        self._note_export(request, kind)
        fields = self.exported()
        content_type, write = _WRITERS[kind]
        now = timezone.now()
        filename = (
            f"{slugify(str(self.opts.verbose_name_plural)) or self.opts.model_name}-{now:%Y-%m-%d}.{kind}"
        )
        return StreamingHttpResponse(
            write([field.replace("__", ".") for field in fields], chunks(rows, fields)),
            content_type=content_type,
            headers={
                "Content-Disposition": f'attachment; filename="{filename}"',
                "Cache-Control": "no-store",
            },
        )

    def exported(self) -> tuple[str, ...]:
        own = self.export_fields or tuple(
            field.attname for field in self.opts.concrete_fields if not isinstance(field, _TEXTS)
        )
        return (*own, *self.export_more)

    def _note_export(self, request: HttpRequest, kind: str) -> None:
        """Before the first row leaves. What was searched for may be an address: it stays out of the trail."""
        assert isinstance(request.user, User)
        filters = sorted(set(request.GET) - {"q", "p", "o", "e"})
        with transaction.atomic():
            audit.record(
                audit.STAFF,
                "exported",
                by=request.user,
                at=timezone.now(),
                model=self.opts.label_lower,
                format=kind,
                filters=filters,
                searched=bool(request.GET.get("q")),
            )


def chunks(rows: QuerySet[Any], fields: tuple[str, ...]) -> Iterator[list[Row]]:
    """The rows' ``fields``, newest first."""
    left = rows.order_by("-pk").values_list("pk", *fields)
    found = list(left[:_CHUNK])
    while found:
        yield [row[1:] for row in found]
        if len(found) < _CHUNK:
            return
        found = list(left.filter(pk__lt=found[-1][0])[:_CHUNK])


class _Lines:
    """What csv writes to, a chunk at a time."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def write(self, line: str) -> int:
        self._lines.append(line)
        return len(line)

    def take(self) -> str:
        text = "".join(self._lines)
        self._lines.clear()
        return text


def as_csv(names: list[str], rows: Iterator[list[Row]]) -> Iterator[str]:
    lines = _Lines()
    writer = csv.writer(lines)
    writer.writerow(names)
    yield lines.take()
    for chunk in rows:
        writer.writerows([_cell(value) for value in row] for row in chunk)
        yield lines.take()


def as_json(names: list[str], rows: Iterator[list[Row]]) -> Iterator[str]:
    """One array, an object to a line. Quantities are texts: a JSON reader would round them."""
    yield "["
    separator = "\n"
    for chunk in rows:
        objects = (
            json.dumps(
                dict(zip(names, map(_plain, row), strict=True)), ensure_ascii=False, separators=(",", ":")
            )
            for row in chunk
        )
        yield separator + ",\n".join(objects)
        separator = ",\n"
    yield "\n]\n"


_WRITERS: dict[str, tuple[str, Callable[[list[str], Iterator[list[Row]]], Iterator[str]]]] = {
    "csv": ("text/csv; charset=utf-8", as_csv),
    "json": ("application/json", as_json),
}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, UUID):
        return value.hex
    return value


def _cell(value: Any) -> str:
    """A text that a spreadsheet shows and does not reckon with."""
    plain = _plain(value)
    if plain is None:
        return ""
    if isinstance(plain, bool):
        return "true" if plain else "false"
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
