"""What the welcome page shows of the purchases that wait for a visitor."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest

from accounts.models import Membership, Organization, User
from billing import registration
from billing.forms import ClaimForm, reference
from billing.models import Agreement, Registration


@dataclass(frozen=True, slots=True)
class Arrival:
    registration_id: str
    product: str
    pricing: str
    masked_account: str
    confirmed: bool
    failed: bool
    ended: bool
    free_trial: bool
    claimed_organization: Organization | None
    claimed_elsewhere: bool
    ask: str
    form: ClaimForm | None

    @property
    def over(self) -> bool:
        return self.failed or self.ended


def arrivals_of(
    request: HttpRequest, *, bound: ClaimForm | None = None, bound_pk: int | None = None
) -> list[Arrival]:
    """One arrival per purchase, newest first. ``bound`` replaces the form of the one it was sent for."""
    seen: set[int] = set()
    arrivals: list[Arrival] = []
    for waiting in registration.waiting_for(request):
        if waiting.agreement_id in seen:
            continue
        seen.add(waiting.agreement_id)
        form = bound if waiting.pk == bound_pk else None
        arrivals.append(_arrival(waiting, request, form))
    return arrivals


def _arrival(waiting: Registration, request: HttpRequest, bound: ClaimForm | None) -> Arrival:
    agreement = waiting.agreement
    user = request.user if isinstance(request.user, User) else None
    holder = agreement.organization
    is_mine = bool(user and holder and holder.memberships.filter(user=user).exists())
    home = registration.household(waiting) if user and holder is None else None
    ask = (
        home.ask
        if home
        and not home.organization.memberships.filter(user=user, role__in=Membership.ADMINISTRATORS).exists()
        else ""
    )
    if user and holder and not is_mine:
        ask = registration.whom_to_ask(holder)
    over = agreement.status in registration.OVER
    form = None if over else bound
    if form is None and user and holder is None and not over:
        form = ClaimForm(user=user, registration=waiting, preferred=home.organization if home else None)
    return Arrival(
        registration_id=reference(waiting),
        product=agreement.product.title,
        pricing=agreement.product.get_pricing_display(),
        masked_account=agreement.customer.masked,
        confirmed=agreement.status in (Agreement.Status.ACTIVE, Agreement.Status.ENDING),
        failed=agreement.status == Agreement.Status.FAILED,
        ended=agreement.status == Agreement.Status.ENDED,
        free_trial=waiting.free_trial_hint,
        claimed_organization=holder if is_mine else None,
        claimed_elsewhere=holder is not None and not is_mine,
        ask=ask,
        form=form,
    )
