"""Narrowing the audit trail: what it is about, who did it, what was done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from billing import audit
from billing.admin import trail_words


class Subject(admin.SimpleListFilter):
    title = _("subject")
    parameter_name = "subject"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("agreement", _("Agreements")),
            ("organization", _("Organizations")),
            (audit.STAFF, _("Staff")),
            (audit.SYSTEM, _("The site")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "agreement":
                return queryset.filter(stream__startswith="agreement:")
            case "organization":
                # By what is done to them: of that there is an index, of how streams begin there is none.
                return queryset.filter(
                    stream__startswith="organization:", action__in=list(trail_words.ACTIONS_OF_PEOPLE)
                )
            case audit.STAFF | audit.SYSTEM as stream:
                return queryset.filter(stream=stream)
        return queryset


class Actor(admin.SimpleListFilter):
    """Kinds of them; one person's deeds are found by their address."""

    title = _("who did it")
    parameter_name = "by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("people", _("People")),
            ("jobs", _("Jobs")),
            *((code, trail_words.actor(code)) for code in ("aws", "clock", "product", "visitor", "command")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case None:
                return queryset
            case "people":
                return queryset.filter(actor__startswith="user:")
            case "jobs":
                return queryset.filter(actor__startswith="job:")
            case actor:
                return queryset.filter(actor=actor)


class Action(admin.SimpleListFilter):
    """One of many: a list to choose from, and a button, so that it needs no script."""

    title = _("what was done")
    parameter_name = "action"
    template = "admin/billing/filter_select.html"

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.kept = [
            (name, value)
            for name, values in request.GET.lists()
            for value in values
            if name not in (self.parameter_name, "p", "e")
        ]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        words = ((code, str(told)) for code, told in trail_words.ACTIONS.items())
        return sorted(words, key=lambda entry: entry[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if not self.value() else queryset.filter(action=self.value())

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        yield {
            "name": self.parameter_name,
            "kept": self.kept,
            "options": [(code, words, code == self.value()) for code, words in self.lookup_choices],
            "selected": bool(self.value()),
            "clear": changelist.get_query_string(remove=[self.parameter_name]),
        }
