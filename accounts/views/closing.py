"""Taking one's data away, and closing an organization or an account."""

from collections.abc import Iterator

from allauth.account.decorators import reauthentication_required
from allauth.decorators import rate_limit
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from accounts import closing, exporting
from accounts.access import TenantRequest, organization_required, role_required, workspace
from accounts.adapter import get_adapter
from accounts.forms_organizations import ConfirmForm
from accounts.models import Membership, User
from accounts.organizations import NotAllowed, RuleBroken


@never_cache
@organization_required
@role_required(Membership.Role.OWNER)
@reauthentication_required(allow_get=True)  # type: ignore[untyped-decorator]  # allauth's
def close_organization(request: TenantRequest) -> HttpResponse:
    organization, now = request.membership.organization, timezone.now()
    form = ConfirmForm(
        request.POST if request.method == "POST" else None,
        expected=organization.name,
        label=_("To confirm, write the name of the workspace"),
        error=_("This is not the name of the workspace."),
    )
    refusal = get_adapter().may_close(organization, now=now)
    if form.is_valid() and refusal is None:
        try:
            closing.close_organization(organization, by=request.user, now=now)
        except NotAllowed as error:
            raise PermissionDenied from error
        except closing.StillNeeded as error:
            refusal = str(error)
        else:
            messages.success(request, _("The workspace is closed."))
            return redirect("accounts:organizations")
    context = {**workspace(request), "form": form, "refusal": refusal}
    status = 409 if form.is_bound and refusal else 422 if form.is_bound else 200
    return render(request, "accounts/close_organization.html", context, status=status)


@never_cache
@login_required
@reauthentication_required(allow_get=True)  # type: ignore[untyped-decorator]  # allauth's
def data(request: HttpRequest) -> HttpResponse:
    """One's own data, and the end of one's account."""
    user, now = request.user, timezone.now()
    assert isinstance(user, User)
    form = ConfirmForm(
        request.POST if request.method == "POST" else None,
        expected=user.email,
        label=_("To confirm, write your email address"),
        error=_("This is not the email address of this account."),
    )
    refusal = ""
    if form.is_valid():
        try:
            closing.close_account(user, now=now)
        except RuleBroken as error:
            refusal = str(error)
        else:
            logout(request)
            messages.success(request, _("Your account is closed. Thank you for having been here."))
            return redirect("home")
    fates = closing.fates_of(user, now=now)
    is_free = not any(fate.stands_against for fate in fates)
    context = {"form": form, "fates": fates, "is_free": is_free, "refusal": refusal}
    status = 409 if refusal else 422 if form.is_bound else 200
    return render(request, "accounts/data.html", context, status=status)


@never_cache
@organization_required
@role_required(*Membership.ADMINISTRATORS)
@rate_limit(action="export", limit_get=True)  # type: ignore[untyped-decorator, no-untyped-call]  # as above
def export_organization(request: TenantRequest) -> HttpResponseBase:
    organization, now = request.membership.organization, timezone.now()
    return _download(exporting.of_organization(organization, now=now), f"{organization.slug}-{now:%Y-%m-%d}")


@never_cache
@login_required
@rate_limit(action="export", limit_get=True)  # type: ignore[untyped-decorator, no-untyped-call]  # as above
def export_account(request: HttpRequest) -> HttpResponseBase:
    user, now = request.user, timezone.now()
    assert isinstance(user, User)
    return _download(exporting.of_person(user, now=now), f"account-{now:%Y-%m-%d}")


def _download(pieces: Iterator[str], name: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(
        pieces,
        content_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}.json"'},
    )
