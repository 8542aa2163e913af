"""Who may see a tenant's pages. They live under /o/<slug>/; an outsider gets 404, as if it did not exist."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.urls import NoReverseMatch, reverse

from accounts import log_context
from accounts.adapter import NavItem, get_adapter
from accounts.models import Membership, Organization, User

# So many workspaces are in the menu that switches between them; a page of its own has all of them.
SWITCHABLE = 10

P = ParamSpec("P")
TenantView = Callable[Concatenate["TenantRequest", P], HttpResponseBase]


class TenantRequest(HttpRequest):
    """A request inside an organization, as views under ``@organization_required`` receive it."""

    user: User
    membership: Membership


def workspace(request: TenantRequest) -> dict[str, Any]:
    """What templates/organization_base.html shows around every page of an organization."""
    organization = request.membership.organization
    adapter = get_adapter()
    return {
        "organization": organization,
        "membership": request.membership,
        "organizations": Organization.objects.of(request.user)[:SWITCHABLE],
        "product_pages": product_pages(organization),
        "nav_items": adapter.nav_items(request.membership),
        "notices": adapter.notices(request.membership),
    }


def product_pages(organization: Organization) -> list[NavItem]:
    """The product's own pages in ``organization``: PRODUCT_PAGES in the settings, those that exist."""
    pages = []
    for name, label in settings.PRODUCT_PAGES:
        try:
            pages.append(NavItem(str(label), reverse(name, args=[organization.slug])))
        except NoReverseMatch:
            continue
    return pages


def organization_required(view: TenantView[P]) -> Callable[..., HttpResponseBase]:
    """Turn the ``slug`` of the URL into ``request.membership`` (with its organization), or 404."""

    @wraps(view)
    def for_members(request: Any, slug: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        membership = (
            Membership.objects.select_related("organization")
            .filter(user=request.user, organization__slug=slug)
            .first()
        )
        if membership is None:
            raise Http404("No such organization.")
        membership.user = request.user  # not read again
        request.membership = membership
        log_context.note(organization=membership.organization_id)
        return view(request, *args, **kwargs)

    return login_required(for_members)


def role_required(*roles: Membership.Role) -> Callable[[TenantView[P]], TenantView[P]]:
    """Refuse members without one of ``roles`` (403). Goes below ``@organization_required``."""

    def decorate(view: TenantView[P]) -> TenantView[P]:
        @wraps(view)
        def for_roles(request: TenantRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if request.membership.role not in roles:
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return for_roles

    return decorate
