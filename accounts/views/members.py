"""Who is in an organization, in which role, and how they leave it."""

from functools import partial

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import organizations
from accounts.access import TenantRequest, organization_required, workspace
from accounts.adapter import get_adapter
from accounts.forms_organizations import RoleForm
from accounts.models import Membership
from accounts.organizations import NotAllowed, RuleBroken
from accounts.slices import slice_of
from accounts.views.attempts import attempt

Role = Membership.Role

_PER_PAGE = 50


@organization_required
def members(request: TenantRequest) -> HttpResponse:
    own, now = request.membership, timezone.now()
    sought = request.GET.get("q", "").replace("\x00", "").strip()[:100]
    people = slice_of(_found(own, sought), request, name="page", size=_PER_PAGE)
    context = {
        "people": people,
        "sought": sought,
        "manageable": {each.pk for each in people.rows if _may_manage(own, each)},
        "places": get_adapter().places(own.organization, now=now),
    }
    if own.is_administrator:
        invited = own.organization.invitations.open().select_related("invited_by").order_by("-pk")
        context |= {
            "invited": slice_of(invited, request, name="invited", size=_PER_PAGE),
            "decided_roles": [role for role in Role.values if organizations.decides_about(own.role, role)],
            "now": now,
        }
    return render(request, "accounts/members.html", {**workspace(request), **context})


@organization_required
def member(request: TenantRequest, pk: int) -> HttpResponse:
    """What may be done about one member: by whoever decides about them, and by themselves."""
    own, person = request.membership, _member(request, pk)
    if not _may_manage(own, person):
        raise PermissionDenied
    form = RoleForm(request.POST) if request.method == "POST" else RoleForm(initial={"role": person.role})
    if form.is_valid():
        role = form.cleaned_data["role"]
        done = _("The role is changed.")
        change = partial(organizations.change_role, person, role=role, by=request.user, now=timezone.now())
        attempt(request, change, done=done)
        return redirect("accounts:members", own.organization.slug)
    return _page_of(request, person, form, status=422 if form.is_bound else 200)


@organization_required
@require_POST
def remove(request: TenantRequest, pk: int) -> HttpResponse:
    slug = request.membership.organization.slug
    person = request.membership.organization.memberships.filter(pk=pk).first()
    if person is None:  # somebody else was faster, or the button was pressed twice
        messages.info(request, _("This person is not a member of the workspace any more."))
        return redirect("accounts:members", slug)
    if person.pk == request.membership.pk:  # leaving asks once more
        return redirect("accounts:leave", slug)
    done = _("They are not a member any more.")
    attempt(request, lambda: organizations.remove(person, by=request.user, now=timezone.now()), done=done)
    return redirect("accounts:members", slug)


@organization_required
@require_POST
def hand_over(request: TenantRequest, pk: int) -> HttpResponse:
    person = _member(request, pk)
    try:
        organizations.hand_over(person, by=request.user, now=timezone.now())
    except NotAllowed as error:
        raise PermissionDenied from error
    except organizations.OwnerAlready as error:  # as after a second press
        messages.info(request, str(error))
    except RuleBroken as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("The workspace has a new owner, and you are an admin now."))
    return redirect("accounts:members", request.membership.organization.slug)


@organization_required
def leave(request: TenantRequest) -> HttpResponse:
    own = request.membership
    if request.method != "POST":
        others = own.organization.memberships.exclude(pk=own.pk)
        context = {
            "is_last_owner": own.role == Role.OWNER and not others.filter(role=Role.OWNER).exists(),
            "is_alone": not others.exists(),
        }
        return render(request, "accounts/leave.html", {**workspace(request), **context})
    done = _("You are not a member of that workspace any more.")
    left = attempt(request, lambda: organizations.remove(own, by=request.user, now=timezone.now()), done=done)
    return redirect("accounts:home") if left else redirect("accounts:leave", own.organization.slug)


def _found(own: Membership, sought: str) -> QuerySet[Membership]:
    people = own.organization.memberships.select_related("user")
    if sought:
        people = people.filter(Q(user__name__icontains=sought) | Q(user__email__icontains=sought))
    return people


def _member(request: TenantRequest, pk: int) -> Membership:
    """By query from the organization: another's member is 404."""
    people = request.membership.organization.memberships.select_related("user")
    person: Membership = get_object_or_404(people, pk=pk)
    person.organization = request.membership.organization
    return person


def _may_manage(own: Membership, person: Membership) -> bool:
    return own.pk == person.pk or organizations.decides_about(own.role, person.role)


def _page_of(request: TenantRequest, person: Membership, form: RoleForm, *, status: int) -> HttpResponse:
    own = request.membership
    owners = own.organization.memberships.filter(role=Role.OWNER)
    context = {
        "person": person,
        "form": form,
        "is_own": own.pk == person.pk,
        "is_last_owner": person.role == Role.OWNER and not owners.exclude(pk=person.pk).exists(),
        "may_change_role": own.role == Role.OWNER,
        "may_hand_over": own.role == Role.OWNER and own.pk != person.pk and person.role != Role.OWNER,
    }
    return render(request, "accounts/member.html", {**workspace(request), **context}, status=status)
