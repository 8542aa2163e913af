"""People and their organizations, which accounts describes, on the operators' site."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts import admin as people
from accounts.models import Invitation, Membership, Organization, User
from billing import audit
from billing.admin import panels_of
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import linked, list_url, when
from billing.admin.panels import Panel, WithPanels
from billing.admin.site import admin_site
from billing.models import Agreement, UsageEvent

# The fields that decide what a person may do.
_ACCESS = ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")


def _record(request: HttpRequest, action: str, **ids: Any) -> None:
    assert isinstance(request.user, User)
    audit.record(audit.STAFF, action, by=request.user, at=timezone.now(), **ids)


@admin.register(User, site=admin_site)
class UserAdmin(people.UserAdmin):
    """What staff do to a person's access is in the trail, or is not done."""

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        key = unquote(id)
        with transaction.atomic():
            before = self.get_object(request, key)
            response = super().user_change_password(request, id, form_url)
            after = self.get_object(request, key)
            if before is not None and after is not None and before.password != after.password:
                _record(request, "password_set", user=after.pk)
        return response

    def save_related(self, request: HttpRequest, form: forms.ModelForm, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        user = form.instance
        if not change:
            _record(request, "account_made", user=user.pk)
            return
        changed = [name for name in _ACCESS if name in form.changed_data]
        if changed:
            _record(request, "access_changed", user=user.pk, **{name: _of(user, name) for name in changed})


def _of(user: User, name: str) -> Any:
    if name in ("groups", "user_permissions"):
        return sorted(getattr(user, name).values_list("pk", flat=True))
    return getattr(user, name)


@admin.register(Group, site=admin_site)
class GroupAdmin(people.GroupAdmin):
    """A group is what its members may do: as much in the trail as theirs."""

    def save_related(self, request: HttpRequest, form: forms.ModelForm, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if "permissions" in form.changed_data:
            group = form.instance
            held = sorted(group.permissions.values_list("pk", flat=True))
            _record(request, "group_changed", group=group.pk, permissions=held)

    def delete_model(self, request: HttpRequest, obj: Group) -> None:
        with transaction.atomic():
            _record(request, "group_deleted", group=obj.pk)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Group]) -> None:
        with transaction.atomic():
            for group in queryset:
                _record(request, "group_deleted", group=group.pk)
            super().delete_queryset(request, queryset)


@admin.register(Organization, site=admin_site)
class OrganizationAdmin(WithPanels, people.OrganizationAdmin):  # type: ignore[misc]  # unfold's own mixins differ
    def panels(self, request: HttpRequest, row: Organization) -> list[Panel]:
        return [
            panels_of.agreements(row.agreements.all(), more=list_url(Agreement, organization=row.pk)),
            panels_of.usage(row.usage_events.order_by("-pk"), more=list_url(UsageEvent, organization=row.pk)),
        ]


@admin.register(Membership, site=admin_site)
class MembershipAdmin(ReadOnlyAdmin):
    """The rules of who may leave and who may lead are accounts.organizations': here they are seen."""

    list_display = (when("created_at", "since"), linked("user"), linked("organization"), "role")
    list_select_related = ("user", "organization")
    list_filter = ("role", "created_at")
    search_fields = ("user__email__exact", "organization__slug__exact")
    search_help_text = "E-mail, or the organization's address"
    sections = {
        "": ((linked("user"), linked("organization")), ("role", when("created_at", "since"))),
    }


@admin.register(Invitation, site=admin_site)
class InvitationAdmin(ReadOnlyAdmin):
    """Sent and revoked by the workspace's own people: here they are seen."""

    list_display = (
        when("created_at", "invited"),
        "email",
        linked("organization"),
        "role",
        when("expires_at", "expires"),
        when("accepted_at", "accepted"),
        when("revoked_at", "revoked"),
    )
    list_select_related = ("organization",)
    list_filter = ("role", "created_at")
    search_fields = ("email__exact", "organization__slug__exact")
    search_help_text = "E-mail, or the organization's address"
    sections = {
        "": (("email", "role"), (linked("organization"), linked("invited_by"))),
        "Dates": (
            (when("created_at", "invited"), when("expires_at", "expires")),
            (when("accepted_at", "accepted"), linked("accepted_by")),
            when("revoked_at", "revoked"),
        ),
    }
