"""How every page of the console behaves: lists that stay fast at millions of rows, rows that nobody edits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib.admin import ShowFacets
from django.contrib.admin.utils import flatten_fieldsets
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from unfold.paginator import InfinitePaginator

from billing.admin import search
from billing.admin.columns import EMPTY, Column, Words
from billing.admin.exporting import WithExport

Field = str | Column


class OperatorAdmin(WithExport):
    """A list that never counts and sorts by its key alone, unless it is known to stay short."""

    paginator: ClassVar[type[Paginator]] = InfinitePaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    ordering: ClassVar[tuple[str, ...]] = ("-pk",)
    sortable_by: ClassVar[tuple[str, ...] | None] = ()
    empty_value_display = EMPTY
    # Lookups of indexed columns that a search must match whole, `…__exact`: `=` would compare upper-cased
    # and pass the index by.
    search_fields: ClassVar[tuple[str, ...]] = ()
    # The path to the agreement by whose AWS account, license, agreement id or member's e-mail rows are found.
    search_agreement = ""

    def search_by(self, term: str) -> Q:
        """What else a search finds, where indexes serve it."""
        return Q()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search.normalized(search_term)
        if not term:
            return queryset, False
        found = Q(*((lookup, term) for lookup in self.search_fields), _connector=Q.OR) | self.search_by(term)
        if self.search_agreement:
            found |= Q((f"{self.search_agreement}__in", search.agreements(term)))
        number = search.row_number(term)
        if number is not None:
            found |= Q(pk=number)
        return queryset.filter(found), False


class ReadOnlyAdmin(OperatorAdmin):
    """Rows that came from AWS, went to AWS, or prove either: to be looked at."""

    # What a page shows, title by title: names of fields, and columns, one or several to a row.
    sections: ClassVar[Mapping[Words, tuple[Field | tuple[Field, ...], ...]]] = {}
    folded: ClassVar[tuple[Words, ...]] = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        return [
            (title or None, {"fields": rows, "classes": ("collapse",) if title in self.folded else ()})
            for title, rows in self.sections.items()
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        # Fields are read-only by permission; columns are no fields, and Django asks for them by name.
        return [field for field in flatten_fieldsets(self.get_fieldsets(request, obj)) if callable(field)]
