"""The pages of an organization."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts.access import TenantRequest, organization_required, workspace
from accounts.models import Organization, User


@login_required
def organizations(request: HttpRequest) -> HttpResponse:
    """All of a person's workspaces; without one, the ways to get one."""
    user = request.user
    assert isinstance(user, User)
    mine = Organization.objects.of(user)[:200]
    template = "accounts/choose_organization.html" if mine else "accounts/no_organization.html"
    return render(request, template, {"organizations": mine})


@organization_required
def organization(request: TenantRequest) -> HttpResponse:
    members = request.membership.organization.memberships.select_related("user")[:100]
    return render(request, "accounts/organization.html", {**workspace(request), "members": members})
