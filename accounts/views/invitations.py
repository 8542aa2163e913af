"""Inviting people, and the page that an invitation's link opens."""

from itertools import takewhile

from allauth.core import ratelimit
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST

from accounts import addresses, invitation_links, invitation_mail, invitations
from accounts.access import TenantRequest, organization_required, role_required, workspace
from accounts.adapter import get_adapter
from accounts.forms_organizations import InviteForm
from accounts.invitations import Judged
from accounts.models import Invitation, Membership, User
from accounts.organizations import NotAllowed, RuleBroken
from accounts.views.attempts import attempt


@never_cache
@organization_required
@role_required(*Membership.ADMINISTRATORS)
def invite(request: TenantRequest) -> HttpResponse:
    """Several people at once; what became of each address is told on the same page."""
    own = request.membership
    roles = invitations.roles_to_give(own.role)
    form = InviteForm(request.POST if request.method == "POST" else None, roles=roles)
    if not form.is_valid():
        return _invite_page(request, {"form": form}, status=422 if form.is_bound else 200)
    emails = form.cleaned_data["emails"]
    # A workspace must not become a way to mail the world.
    within_limit = list(takewhile(lambda _email: _may_invite_one_more(request), emails))
    judged = invitations.invite_each(
        own.organization,
        emails=within_limit,
        role=form.cleaned_data["role"],
        by=request.user,
        now=timezone.now(),
    )
    too_many = _("That was a bit too fast. Wait an hour, then invite this person again.")
    judged += [Judged(email, refusal=too_many) for email in emails[len(within_limit) :]]
    return _tell(request, judged)


@never_cache
@organization_required
@role_required(*Membership.ADMINISTRATORS)
@require_POST
def resend(request: TenantRequest, pk: int) -> HttpResponse:
    own = request.membership
    invitation = get_object_or_404(own.organization.invitations, pk=pk)
    if not _may_invite_one_more(request):
        messages.error(request, _("That was a bit too fast. Wait an hour, then invite this person again."))
        return redirect("accounts:members", own.organization.slug)
    try:
        renewed, token = invitations.renew(invitation, by=request.user, now=timezone.now())
    except NotAllowed as error:
        raise PermissionDenied from error
    except RuleBroken as refusal:
        messages.error(request, str(refusal))
        return redirect("accounts:members", own.organization.slug)
    return _tell(request, [Judged(renewed.email, renewed, token, was_renewed=True)])


@organization_required
@role_required(*Membership.ADMINISTRATORS)
@require_POST
def revoke(request: TenantRequest, pk: int) -> HttpResponse:
    organization = request.membership.organization
    invitation = get_object_or_404(organization.invitations, pk=pk)
    done = _("The invitation is withdrawn: its link opens nothing any more.")
    attempt(request, lambda: invitations.revoke(invitation, by=request.user, now=timezone.now()), done=done)
    return redirect("accounts:members", organization.slug)


@never_cache
@sensitive_variables("token")
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """What the link opens: who invites whom to what; the button there accepts."""
    response = _accept(request, token) if request.method == "POST" else _show(request, token)
    # The address is the secret. "no-referrer" would take the Origin from our own forms, too.
    response["Referrer-Policy"] = "strict-origin"
    return response


@sensitive_variables("token")
def _show(request: HttpRequest, token: str) -> HttpResponse:
    user = request.user if isinstance(request.user, User) else None
    try:
        found = invitations.find(token)
    except invitations.InvitationUnknown as refusal:
        return _refused(request, refusal, status=404)
    membership = found.organization.memberships.filter(user=user).first() if user else None
    if membership is not None and found.accepted_by_id in (None, membership.user_id):
        return render(request, "accounts/invitation_member.html", {"invitation": found})
    try:
        if user is not None:
            invitations.require_for(found, user=user)
        invitations.require_open(found, now=timezone.now())
    except invitations.InvitationForAnother:
        context = {"invitation": found, "masked": addresses.masked(found.email), "path": request.path}
        response = render(request, "accounts/invitation_for_another.html", context)
        invitation_links.remember(response, token)
        return response
    except invitations.InvitationRefused as refusal:
        return _refused(request, refusal, status=410)
    context = {"invitation": found, "masked": addresses.masked(found.email), "path": request.path}
    response = render(request, "accounts/invitation.html", context)
    if user is None:
        invitation_links.remember(response, token)
    else:  # whoever is here need not be led back
        invitation_links.forget(response)
    return response


@sensitive_variables("token")
def _accept(request: HttpRequest, token: str) -> HttpResponse:
    if not isinstance(request.user, User):
        return redirect_to_login(request.path)
    try:
        membership = invitations.accept(token, user=request.user, now=timezone.now())
    except invitations.InvitationRefused:  # the page itself says why
        return redirect(request.path)
    except RuleBroken as refusal:
        messages.error(request, str(refusal))
        return redirect(request.path)
    messages.success(request, _("Welcome! You are a member of this workspace now."))
    response = redirect(membership.organization)
    invitation_links.forget(response)
    return response


def _refused(request: HttpRequest, refusal: RuleBroken, *, status: int) -> HttpResponse:
    response = render(request, "accounts/invitation_refused.html", {"reason": str(refusal)}, status=status)
    invitation_links.forget(response)
    return response


def _may_invite_one_more(request: TenantRequest) -> bool:
    return ratelimit.consume(request, action="invite", user=request.user)


def _tell(request: TenantRequest, judged: list[Judged]) -> HttpResponse:
    """Mail what is to be mailed, and say what became of each address."""
    organization = request.membership.organization
    unsent = invitation_mail.send(
        judged, organization=organization, by=request.user, language=get_language() or ""
    )
    links = {each.email: invitation_links.url_of(each.token) for each in unsent}
    form = InviteForm(roles=invitations.roles_to_give(request.membership.role))
    return _invite_page(request, {"form": form, "judged": judged, "links": links})


def _invite_page(request: TenantRequest, context: dict[str, object], *, status: int = 200) -> HttpResponse:
    places = get_adapter().places(request.membership.organization, now=timezone.now())
    everything = {**workspace(request), "places": places, "days": Invitation.LIFETIME.days, **context}
    return render(request, "accounts/invite.html", everything, status=status)
