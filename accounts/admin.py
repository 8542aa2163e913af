"""How operators see people. Registered by whoever runs a site: accounts does not know which."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from django import forms
from django.contrib import admin
from django.contrib.auth import admin as auth_admin
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import AdminPasswordChangeForm, UserCreationForm
from unfold.paginator import InfinitePaginator

from accounts.models import Invitation, Membership, User


class _ReadOnlyInline(TabularInline):
    extra = 0
    can_delete = False
    hide_title = True

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class EmailAddressInline(_ReadOnlyInline):
    model = EmailAddress
    fields = ("email", "verified", "primary")


class MembershipInline(_ReadOnlyInline):
    model = Membership
    fields = ("organization", "user", "role", "created_at")
    readonly_fields = ("created_at",)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Membership]:
        queryset: models.QuerySet[Membership] = super().get_queryset(request)
        return queryset.select_related("organization", "user")


class InvitationInline(_ReadOnlyInline):
    model = Invitation
    fields = (
        "email",
        "role",
        "invited_by",
        "created_at",
        "expires_at",
        "accepted_at",
        "accepted_by",
        "revoked_at",
    )
    readonly_fields = ("created_at",)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Invitation]:
        queryset: models.QuerySet[Invitation] = super().get_queryset(request)
        return queryset.select_related("organization", "invited_by", "accepted_by")


class AddUserForm(UserCreationForm):
    class Meta:
        model = User
        fields = ("email", "name")

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"].strip().lower()
        if EmailAddress.objects.filter(email=email, verified=True).exists():
            raise forms.ValidationError("Somebody signs in with this address.")
        return email


class _PeopleAdmin(ModelAdmin):
    """Not deleted: an account or organization with purchases is closed and anonymized."""

    paginator = InfinitePaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class UserAdmin(auth_admin.UserAdmin, _PeopleAdmin):  # type: ignore[misc]  # Django's and unfold's stubs differ
    form = forms.ModelForm
    add_form = AddUserForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("email", "name", "is_active", "is_staff", "is_superuser", "last_login", "date_joined")
    list_filter = ("is_staff", "is_superuser", "is_active", "groups", "date_joined")
    search_fields = ("^email", "^name")
    search_help_text = "The beginning of an e-mail address or a name"
    ordering = ("-pk",)
    sortable_by = ("email", "name", "last_login", "date_joined")
    filter_horizontal = ()
    autocomplete_fields = ("groups",)
    inlines = (EmailAddressInline, MembershipInline)
    fieldsets = (
        (None, {"fields": (("email", "name"), ("password_state", "second_factor"))}),
        ("Access", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates", {"fields": (("last_login", "date_joined"),)}),
    )
    add_fieldsets = (  # type: ignore[assignment]  # unfold declares ()
        (None, {"fields": ("email", "name", "usable_password", "password1", "password2")}),
    )
    # The address is a login that its owner proved: it changes on their own page, never here.
    readonly_fields = ("email", "password_state", "second_factor", "last_login", "date_joined")

    def may_govern(self, request: HttpRequest) -> bool:
        """Whether they may make others staff and put them into groups. Whoever runs a site may widen it."""
        return _is_superuser(request)

    def get_inlines(self, request: HttpRequest, obj: User | None) -> tuple[type[TabularInline], ...]:
        return self.inlines if obj else ()

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        if obj is None:
            return ()
        if _is_superuser(request):
            return self.readonly_fields
        if self.may_govern(request):
            return (*self.readonly_fields, "is_superuser")
        # Whoever may edit people must not make themselves more than they are.
        return (*self.readonly_fields, "is_staff", "is_superuser", "groups")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        if obj is not None and obj.is_superuser and not _is_superuser(request):
            return False
        if obj is not None and obj.is_staff and not self.may_govern(request):
            return False
        return bool(super().has_change_permission(request, obj))

    def save_model(self, request: HttpRequest, obj: models.Model, form: forms.Form, change: Any) -> None:
        super().save_model(request, obj, form, change)
        if not change and isinstance(obj, User):
            # An operator vouches for the address: the account can sign in at once.
            EmailAddress.objects.create(user=obj, email=obj.email, verified=True, primary=True)

    @admin.display(description="password")
    def password_state(self, user: User) -> str:
        return format_html(
            '{} · <a href="{}" class="text-link">Change</a>',
            "Set" if user.has_usable_password() else "None",
            reverse(f"{self.admin_site.name}:auth_user_password_change", args=[user.pk]),
        )

    @admin.display(description="second factor")
    def second_factor(self, user: User) -> str:
        return ", ".join(user.authenticator_set.values_list("type", flat=True)) or "Not set up"


class GroupAdmin(auth_admin.GroupAdmin, ModelAdmin):  # type: ignore[misc]  # as above
    """Changed by few: whoever may edit a group they are in may give themselves everything."""

    def may_govern(self, request: HttpRequest) -> bool:
        """Whoever runs a site may widen it."""
        return _is_superuser(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return self.may_govern(request) or _may(request, "auth.view_group")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may_govern(request)

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return self.may_govern(request)

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return self.may_govern(request)


class OrganizationAdmin(_PeopleAdmin):
    list_display = ("name", "slug", "created_at")
    list_filter = ("created_at",)
    search_fields = ("=slug", "^name", "=memberships__user__email")
    search_help_text = "The organization's address or the beginning of its name, or a member's e-mail"
    ordering = ("-pk",)
    fields = ("name", ("slug", "created_at"))
    view_on_site = False  # the tenant's pages are 404 to whoever is not a member
    readonly_fields = ("slug", "created_at")
    inlines = (MembershipInline, InvitationInline)

    def has_add_permission(self, request: HttpRequest) -> bool:
        # An organization has an owner from its first moment: accounts.organizations.create.
        return False


def _may(request: HttpRequest, permission: str) -> bool:
    return isinstance(request.user, User) and request.user.has_perm(permission)


def _is_superuser(request: HttpRequest) -> bool:
    user = request.user
    return isinstance(user, User) and user.is_active and user.is_superuser
