"""People and their organizations, which accounts describes, on the operators' site."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.models import Group

from accounts import admin as people
from accounts.models import Membership, Organization, User
from billing.admin import panels_of
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import linked, list_url, when
from billing.admin.panels import Panel, WithPanels
from billing.admin.site import admin_site
from billing.models import Agreement, UsageEvent

admin_site.register(User, people.UserAdmin)
admin_site.register(Group, people.GroupAdmin)


@admin.register(Organization, site=admin_site)
class OrganizationAdmin(WithPanels, people.OrganizationAdmin):  # type: ignore[misc]  # unfold's own mixins differ
    def panels(self, row: Organization) -> list[Panel]:
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
