"""An organization's own pages: which there are, a new one, its first page, its name."""

from allauth.account.decorators import verified_email_required
from allauth.decorators import rate_limit
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import organizations as flow
from accounts.access import TenantRequest, organization_required, role_required, workspace
from accounts.adapter import get_adapter
from accounts.forms_organizations import NameForm
from accounts.models import Membership, User
from accounts.views.attempts import attempt

# So many people are on the first page; the members page has all.
_SHOWN = 8


@login_required
def organizations(request: HttpRequest) -> HttpResponse:
    """All of a person's workspaces; without one, the ways to get one."""
    user = request.user
    assert isinstance(user, User)
    mine = user.memberships.select_related("organization").order_by("organization__name", "organization")[
        :200
    ]
    template = "accounts/choose_organization.html" if mine else "accounts/no_organization.html"
    return render(request, template, {"memberships": mine})


@verified_email_required  # type: ignore[untyped-decorator]  # allauth's
@rate_limit(action="create_organization")  # type: ignore[untyped-decorator, no-untyped-call]  # as above
def new(request: HttpRequest) -> HttpResponse:
    """Anybody may have a workspace: what it may do is what it buys."""
    user = request.user
    assert isinstance(user, User)
    form = NameForm(request.POST if request.method == "POST" else None)
    if not form.is_valid():
        status = 422 if form.is_bound else 200
        return render(request, "accounts/new_organization.html", {"form": form}, status=status)
    try:
        organization = flow.start(name=form.cleaned_data["name"], owner=user, now=timezone.now())
    except flow.AccountClosed as error:  # in another window, a moment ago
        messages.error(request, str(error))
        return redirect("home")
    messages.success(request, _("Your workspace is ready."))
    return redirect(organization)


@organization_required
def organization(request: TenantRequest) -> HttpResponse:
    members = request.membership.organization.memberships.select_related("user")[: _SHOWN + 1]
    context = {
        "members": members[:_SHOWN],
        "has_more_members": len(members) > _SHOWN,
        "facts": get_adapter().summary(request.membership),
    }
    return render(request, "accounts/organization.html", {**workspace(request), **context})


@organization_required
@role_required(*Membership.ADMINISTRATORS)
def settings(request: TenantRequest) -> HttpResponse:
    organization = request.membership.organization
    if request.method == "POST":
        form = NameForm(request.POST)
        if form.is_valid():
            name = form.cleaned_data["name"]
            done = _("The new name is saved.")
            attempt(request, lambda: flow.rename(organization, name=name, by=request.user), done=done)
            return redirect("accounts:settings", organization.slug)
    else:
        form = NameForm(initial={"name": organization.name})
    status = 422 if form.is_bound else 200
    return render(request, "accounts/settings.html", {**workspace(request), "form": form}, status=status)
