"""People and their organizations, which accounts describes, on the operators' site."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import admin as people
from accounts.models import Invitation, Membership, Organization, User
from billing import audit, groups
from billing.admin import panels_of, search
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import choice, linked, list_url, text, when
from billing.admin.exporting import WithExport
from billing.admin.filters import Between
from billing.admin.panels import Panel
from billing.admin.site import admin_site
from billing.models import Agreement, UsageEvent


def _may_govern(request: HttpRequest) -> bool:
    """The owners' group may, as superusers may: billing.groups."""
    return isinstance(request.user, User) and request.user.has_perm("billing.manage_staff")


@admin.register(User, site=admin_site)
class UserAdmin(WithExport, people.UserAdmin):  # type: ignore[misc]  # as organizations
    """What staff do to a person's access is in the trail (billing.trail.staff), or is not done."""

    export_fields = (
        "id",
        "email",
        "name",
        "is_active",
        "is_staff",
        "is_superuser",
        "date_joined",
        "last_login",
        "closed_at",
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        term = search_term.strip()
        # Addresses are in lower case, and indexed so.
        return queryset.filter(Q(email__startswith=term.lower()) | Q(name__istartswith=term)), False

    def may_govern(self, request: HttpRequest) -> bool:
        return _may_govern(request)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        with transaction.atomic():
            return super().user_change_password(request, id, form_url)

    def save_related(self, request: HttpRequest, form: forms.ModelForm, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if not change:
            assert isinstance(request.user, User)
            made = form.instance.pk
            audit.record(audit.STAFF, "account_made", by=request.user, at=timezone.now(), user=made)


@admin.register(Group, site=admin_site)
class GroupAdmin(WithExport, people.GroupAdmin):  # type: ignore[misc]  # as organizations
    """A group is what its members may do: as much in the trail as theirs. Ours are as billing.groups says."""

    def may_govern(self, request: HttpRequest) -> bool:
        return _may_govern(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return not self._is_ours(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return not self._is_ours(obj) and super().has_delete_permission(request, obj)

    def _is_ours(self, row: Model | None) -> bool:
        return isinstance(row, Group) and groups.is_ours(row)


@admin.register(Organization, site=admin_site)
class OrganizationAdmin(WithExport, people.OrganizationAdmin):  # type: ignore[misc]  # unfold's own mixins differ
    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Organization], search_term: str
    ) -> tuple[QuerySet[Organization], bool]:
        term = search_term.strip()
        found = Q(slug=term.lower()) | Q(name__istartswith=term) | Q(pk__in=search.organizations(term))
        return (queryset.filter(found) if term else queryset), False

    def panels(self, request: HttpRequest, row: Organization) -> list[Panel]:
        return [
            panels_of.agreements(row.agreements.all(), more=list_url(Agreement, organization=row.pk)),
            panels_of.usage(row.usage_events.order_by("-pk"), more=list_url(UsageEvent, organization=row.pk)),
        ]


@admin.register(Membership, site=admin_site)
class MembershipAdmin(ReadOnlyAdmin):
    """The rules of who may leave and who may lead are accounts.organizations': here they are seen."""

    list_display = (
        when("created_at", _("since")),
        linked("user", _("user")),
        linked("organization", _("organization")),
        "role",
    )
    list_select_related = ("user", "organization")
    list_filter = ("role", ("created_at", Between))
    search_fields = ("user__email__exact", "organization__slug__exact")
    search_help_text = _("E-mail, or the organization's address")
    sections = {
        "": (
            (linked("user", _("user")), linked("organization", _("organization"))),
            (choice("role", _("role")), when("created_at", _("since"))),
        ),
    }


@admin.register(Invitation, site=admin_site)
class InvitationAdmin(ReadOnlyAdmin):
    """Sent and revoked by the workspace's own people: here they are seen."""

    export_fields = (
        "id",
        "organization_id",
        "email",
        "role",
        "created_at",
        "expires_at",
        "accepted_at",
        "revoked_at",
    )

    list_display = (
        when("created_at", _("invited")),
        text("email", _("e-mail")),
        linked("organization", _("organization")),
        choice("role", _("role")),
        when("expires_at", _("expires")),
        when("accepted_at", _("accepted")),
        when("revoked_at", _("revoked")),
    )
    list_select_related = ("organization",)
    list_filter = ("role", ("created_at", Between))
    search_fields = ("email__exact", "organization__slug__exact")
    search_help_text = _("E-mail, or the organization's address")
    sections = {
        "": (
            ("email", "role"),
            (linked("organization", _("organization")), linked("invited_by", _("invited by"))),
        ),
        _("Dates"): (
            (when("created_at", _("invited")), when("expires_at", _("expires"))),
            (when("accepted_at", _("accepted")), linked("accepted_by", _("accepted by"))),
            when("revoked_at", _("revoked")),
        ),
    }
