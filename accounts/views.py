"""The pages of people and organizations that allauth does not bring."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from accounts.access import TenantRequest, organization_required, workspace
from accounts.adapter import get_adapter
from accounts.models import Organization, User


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Where sign-in leads: to what is waiting for this person, else to their organization."""
    user = request.user
    assert isinstance(user, User)
    waiting = get_adapter().after_sign_in(request, user)
    if waiting:
        return redirect(waiting)
    organizations = list(Organization.objects.of(user)[:50])
    if len(organizations) == 1:
        return redirect(organizations[0])
    template = "accounts/choose_organization.html" if organizations else "accounts/no_organization.html"
    return render(request, template, {"organizations": organizations})


@organization_required
def organization(request: TenantRequest) -> HttpResponse:
    members = request.membership.organization.memberships.select_related("user")[:100]
    return render(request, "accounts/organization.html", {**workspace(request), "members": members})
