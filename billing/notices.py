"""What every page of an organization tells a member: what is open only for now, and what waits for them."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Count, Exists, IntegerField, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.adapter import Notice
from accounts.models import Membership, Organization
from billing import gates
from billing.onboarding import joining, visitors


def of(membership: Membership) -> list[Notice]:
    """Two queries, one of them the one that gates share."""
    return [*_for_now(membership.organization), *_waiting(membership)]


def _for_now(organization: Organization) -> Iterator[Notice]:
    """That AWS has yet to say how it goes on."""
    grant = gates.temporary(organization)
    if grant is not None:
        yield Notice(grant.reason, "warning")


def _waiting(membership: Membership) -> Iterator[Notice]:
    requests = (
        joining.open_to(OuterRef("organization"))
        .order_by()
        .values("organization")
        .annotate(count=Count("pk"))
        .values("count")
    )
    found = (
        Membership.objects.filter(pk=membership.pk)
        .values_list(
            Exists(visitors.unclaimed_of(OuterRef("user"))),
            Coalesce(Subquery(requests, output_field=IntegerField()), 0),
        )
        .first()
    )
    if found is None:  # removed while the page was made
        return
    has_purchase, askers = found
    if has_purchase:
        text = _("A purchase is waiting to be set up.")
        yield Notice(text, url=reverse("billing:welcome"), action=_("Set it up"))
    if askers and membership.is_administrator:
        text = ngettext(
            "%(count)s person asks to join this workspace.",
            "%(count)s people ask to join this workspace.",
            askers,
        ) % {"count": askers}
        url = reverse("billing:requests", args=[membership.organization.slug])
        yield Notice(text, url=url, action=_("See who asks"))
