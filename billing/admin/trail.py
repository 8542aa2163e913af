"""Who changed what, and who holds which job."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.views import ChangeList

from accounts.models import User
from billing import audit
from billing.admin import search, trail_names, trail_words
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import block, unbroken, when
from billing.admin.filters import Between
from billing.admin.site import admin_site
from billing.admin.trail_filters import Action, Actor, Subject
from billing.admin.trail_names import Names
from billing.models import AuditCheckpoint, AuditEvent, AuditHead, Lease

_MOST_PEOPLE = 20  # that one address names
_SHORT = 30  # letters that stand on one line


def _names(row: AuditEvent) -> Names:
    """Looked up for the whole page: by _Page, or by get_object."""
    names: Names = row._names  # type: ignore[attr-defined]
    return names


@admin.display(description=_("about"))
def _subject(row: AuditEvent) -> str:
    """The trail has no foreign keys: it outlives what it tells of."""
    return trail_names.subject(row, _names(row))


@admin.display(description=_("by"))
def _actor(row: AuditEvent) -> str:
    return trail_names.actor(row, _names(row))


@admin.display(description=_("what"))
def _action(row: AuditEvent) -> str:
    words = trail_words.action(row.action)
    return unbroken(words) if len(words) <= _SHORT else words


@admin.display(description=_("details"))
def _details(row: AuditEvent) -> str:
    return trail_names.details(row, _names(row))


@admin.display(description=_("data as it is signed"))
def _data(row: AuditEvent) -> str:
    told = {"stream": row.stream, "actor": row.actor, "action": row.action, "data": row.data}
    return block(json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False))


class _Page(ChangeList):
    """A page of the list, with the names of all whom it tells of."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        links = list(self.result_list)
        names = Names.of(links, request)
        for link in links:
            link._names = names
        self.result_list = links


@admin.register(AuditEvent, site=admin_site)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = (when("occurred_at", _("at")), _action, _subject, _actor, _details)
    list_filter = (Subject, Actor, Action, ("occurred_at", Between))
    search_fields = ("stream__exact", "actor__exact")
    search_help_text = _("AWS account, license, agreement id, or the e-mail of who did it or belongs to it")
    sections = {
        "": (
            (_action, when("occurred_at", _("at"))),
            (_subject, "sequence"),
            _actor,
            _details,
        ),
        _("Proof"): (_data, "previous_mac", "mac"),
    }
    folded = (_("Proof"),)

    def get_changelist(  # type: ignore[override]  # unfold says that it is one, and returns the class
        self, request: HttpRequest, **kwargs: Any
    ) -> type[ChangeList]:
        return _Page

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> AuditEvent | None:
        link: AuditEvent | None = super().get_object(request, object_id, from_field)
        if link is not None:
            link._names = Names.of([link], request)  # type: ignore[attr-defined]  # see _names
        return link

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search.normalized(search_term)
        if not term:
            return queryset, False
        streams = [term, *(f"agreement:{pk}" for pk in search.agreements(term))]
        streams += [audit.organization_stream(pk) for pk in search.organizations(term)]
        actors = [term]
        if "@" in term:
            people = User.objects.filter(email=term.lower()).values_list("pk", flat=True)
            actors += [f"user:{pk}" for pk in people[:_MOST_PEOPLE]]
        return queryset.filter(Q(stream__in=streams) | Q(actor__in=actors)), False


@admin.register(AuditHead, site=admin_site)
class AuditHeadAdmin(ReadOnlyAdmin):
    list_display = ("stream", "sequence", "mac")
    search_fields = ("stream__exact",)
    search_help_text = _("Stream: agreement:12, organization:3, staff or system")
    sections = {"": (("stream", "sequence"), "mac", "seal")}


@admin.register(AuditCheckpoint, site=admin_site)
class AuditCheckpointAdmin(ReadOnlyAdmin):
    list_display = (when("made_at", _("made at")), "stream", "sequence", "removed")
    search_fields = ("stream__exact",)
    search_help_text = _("Stream: agreement:12, organization:3, staff or system")
    sections = {"": (("stream", "sequence"), ("removed", when("made_at", _("made at"))), "mac", "seal")}


@admin.register(Lease, site=admin_site)
class LeaseAdmin(ReadOnlyAdmin):
    list_display = ("name", "holder", "token", when("expires_at", _("held until")))
    sections = {
        "": (("name", "holder"), ("token", when("expires_at", _("held until")))),
    }
