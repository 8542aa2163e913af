"""The console's sidebar: who bought, what was used, what was sent, what was said."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse

from accounts.models import Invitation, Membership, Organization, User
from billing import models
from billing.admin.columns import list_url
from billing.admin.site import admin_site

_GROUPS: tuple[tuple[str, tuple[tuple[type[Model], str, str], ...]], ...] = (
    (
        "Purchases",
        (
            (models.Agreement, "Agreements", "contract"),
            (models.MarketplaceCustomer, "AWS accounts", "badge"),
            (models.Registration, "Arrivals", "login"),
            (models.Entitlement, "Entitlements", "verified"),
        ),
    ),
    (
        "Ledger",
        (
            (models.UsageEvent, "Usage", "data_usage"),
            (models.MeteringRecord, "Metering records", "receipt_long"),
            (models.Submission, "Submissions", "send"),
            (models.SubmissionLine, "AWS's answers", "fact_check"),
        ),
    ),
    (
        "Events and audit",
        (
            (models.MarketplaceEvent, "Inbox", "inbox"),
            (models.Effect, "Effects", "bolt"),
            (models.AuditEvent, "Audit trail", "history"),
            (models.Lease, "Leases", "lock_clock"),
        ),
    ),
    (
        "Catalog",
        (
            (models.Product, "Products", "storefront"),
            (models.Dimension, "Dimensions", "straighten"),
        ),
    ),
    (
        "People",
        (
            (Organization, "Organizations", "groups"),
            (User, "Users", "person"),
            (Membership, "Memberships", "badge"),
            (Invitation, "Invitations", "mail"),
            (Group, "Staff groups", "shield_person"),
        ),
    ),
)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """What ``request``'s user may see, as unfold wants it."""
    groups: list[dict[str, Any]] = [
        {"items": [{"title": "Front page", "icon": "monitor_heart", "link": reverse("admin:index")}]}
    ]
    for title, entries in _GROUPS:
        items = [
            {"title": name, "icon": icon, "link": list_url(model)}
            for model, name, icon in entries
            if admin_site.get_model_admin(model).has_view_permission(request)
        ]
        if items:
            groups.append({"title": title, "items": items})
    return groups
