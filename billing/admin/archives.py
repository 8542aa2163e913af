"""Usage that left the database: the files that hold it, its sums by day, its keys."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import badge, bought, choice, linked, quantity, text, when
from billing.admin.site import admin_site
from billing.admin.tones import DISPOSITION
from billing.archiving import archived_keys
from billing.models import ArchivedUsageKey, UsageArchive, UsageArchiveTotal

_PURCHASE = ("agreement__product", "agreement__customer", "agreement__organization")


@admin.register(UsageArchive, site=admin_site)
class UsageArchiveAdmin(ReadOnlyAdmin):
    list_display = (
        text("name", _("file")),
        bought(),
        text("month", _("month")),
        text("event_count", _("uses")),
        text("size", _("bytes")),
        when("made_at", _("made at")),
    )
    list_select_related = _PURCHASE
    search_agreement = "agreement"
    search_help_text = _("AWS account, license, agreement id, or a member's e-mail")
    sections = {
        "": (
            (text("name", _("file")), bought()),
            (text("month", _("month")), when("made_at", _("made at"))),
            (text("event_count", _("uses")), text("size", _("bytes"))),
            text("sha256", _("SHA-256")),
        ),
    }


@admin.register(UsageArchiveTotal, site=admin_site)
class UsageArchiveTotalAdmin(ReadOnlyAdmin):
    list_display = (
        text("day", _("day")),
        bought(),
        linked("organization", _("organization")),
        linked("dimension", _("dimension")),
        badge("disposition", DISPOSITION, _("disposition")),
        quantity("quantity", _("quantity")),
        text("event_count", _("uses")),
        linked("archive", _("archive")),
    )
    list_select_related = (*_PURCHASE, "organization", "dimension", "archive")
    search_agreement = "agreement"
    search_help_text = _("AWS account, license, agreement id, or a member's e-mail")
    ordering = ("-pk",)
    sections = {
        "": (
            (text("day", _("day")), linked("archive", _("archive"))),
            (bought(), linked("organization", _("organization"))),
            (linked("dimension", _("dimension")), choice("disposition", _("disposition"))),
            (quantity("quantity", _("quantity")), text("event_count", _("uses"))),
        ),
    }


@admin.register(ArchivedUsageKey, site=admin_site)
class ArchivedUsageKeyAdmin(ReadOnlyAdmin):
    list_display = (
        text("id", _("number of the use")),
        linked("organization", _("organization")),
        when("occurred_at", _("used at")),
        linked("total", _("archived total")),
    )
    list_select_related = ("organization", "total")
    search_help_text = _("Usage key, or the number of the use")
    sections = {
        "": (
            (linked("organization", _("organization")), when("occurred_at", _("used at"))),
            linked("total", _("archived total")),
            (text("digest", _("digest of the key")), text("content", _("digest of the content"))),
        ),
    }

    def search_by(self, term: str) -> Q:
        # Organization by organization: the index begins with it.
        theirs = Organization.objects.order_by().values("pk")
        return Q(organization__in=theirs, digest=archived_keys.digest(term))
