"""The console's sidebar: who bought, what was used, what was sent, what was said."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from accounts.models import Invitation, Membership, Organization, User
from billing import models
from billing.admin import reconciliation
from billing.admin.columns import list_url
from billing.admin.site import admin_site

_LEDGER = _("Ledger")
# By model and icon. A list is called as its model is, here and on its page.
_GROUPS: tuple[tuple[Promise, tuple[tuple[type[Model], str], ...]], ...] = (
    (
        _("Purchases"),
        (
            (models.Agreement, "contract"),
            (models.MarketplaceCustomer, "badge"),
            (models.Registration, "login"),
            (models.JoinRequest, "group_add"),
            (models.AgreementMove, "move_up"),
            (models.Entitlement, "verified"),
        ),
    ),
    (
        _LEDGER,
        (
            (models.UsageEvent, "data_usage"),
            (models.MeteringRecord, "receipt_long"),
            (models.Submission, "send"),
            (models.SubmissionLine, "fact_check"),
            (models.UsageArchive, "inventory_2"),
            (models.UsageArchiveTotal, "functions"),
            (models.ArchivedUsageKey, "vpn_key"),
            (models.UsageReport, "description"),
            (models.UsageReportLine, "list_alt"),
        ),
    ),
    (
        _("Events and jobs"),
        (
            (models.MarketplaceEvent, "inbox"),
            (models.OperatorTask, "build"),
            (models.Effect, "bolt"),
            (models.JobRun, "schedule"),
            (models.Lease, "lock_clock"),
        ),
    ),
    (
        _("Audit"),
        (
            (models.AuditEvent, "history"),
            (models.AuditHead, "link"),
            (models.AuditCheckpoint, "archive"),
        ),
    ),
    (
        _("Catalog"),
        (
            (models.Product, "storefront"),
            (models.Dimension, "straighten"),
        ),
    ),
    (
        _("People"),
        (
            (Organization, "groups"),
            (User, "person"),
            (Membership, "badge"),
            (Invitation, "mail"),
            (Group, "shield_person"),
        ),
    ),
)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """What ``request``'s user may see, as unfold wants it."""
    groups: list[dict[str, Any]] = [
        {"items": [{"title": _("Front page"), "icon": "monitor_heart", "link": reverse("admin:index")}]}
    ]
    for title, entries in _GROUPS:
        items = [
            {"title": capfirst(model._meta.verbose_name_plural), "icon": icon, "link": list_url(model)}
            for model, icon in entries
            if admin_site.get_model_admin(model).has_view_permission(request)
        ]
        if items and title == _LEDGER and reconciliation.may_look(request):
            url = reverse("admin:billing_reconciliation")
            items.insert(0, {"title": _("Reconciliation"), "icon": "balance", "link": url})
        if items:
            groups.append({"title": title, "items": items})
    return groups
