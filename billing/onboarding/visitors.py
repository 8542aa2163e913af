"""Which arrivals belong to this browser, and to this person.

What the browser keeps is a signed cookie naming the registration. It is not the session: the POST comes
from AWS's site without our SameSite=Lax session cookie, and writing a session then would sign a signed-in
buyer out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.core import signing
from django.db import transaction
from django.db.models import Case, Max, Q, QuerySet, When
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts.models import User
from billing import owed
from billing.aws.limits import TOKEN_LIFETIME
from billing.mailing import personal_mails
from billing.models import Agreement, Registration
from billing.registration import OVER

# One cookie per arrival: two purchases landed in one browser are two cookies, neither overwrites the other.
COOKIE_PREFIX = "marketplace_arrival_"
_SALT = "billing.registration"
# More purchases than that are not shown at once. Those set up make room for the rest.
_SHOWN = 20


def remember(response: HttpResponse, registration: Registration, *, secure: bool) -> None:
    """Give the browser a signed reference to the arrival."""
    response.set_cookie(
        f"{COOKIE_PREFIX}{registration.pk}",
        signing.dumps(registration.pk, salt=_SALT),
        max_age=TOKEN_LIFETIME,
        httponly=True,
        samesite="Lax",
        secure=secure,
    )


def forget(response: HttpResponse, registration: Registration) -> None:
    response.delete_cookie(f"{COOKIE_PREFIX}{registration.pk}", samesite="Lax")


def in_browser(request: HttpRequest) -> list[int]:
    """Primary keys of the arrivals whose cookies this browser holds."""
    found: list[int] = []
    for name, value in request.COOKIES.items():
        if name.startswith(COOKIE_PREFIX):
            try:
                found.append(signing.loads(value, salt=_SALT, max_age=TOKEN_LIFETIME))
            except signing.BadSignature:
                continue
    return found


def waiting_for(request: HttpRequest, *, chosen: int | None = None) -> list[Registration]:
    """The newest arrival of each purchase that this visitor may act on, what is over last.

    Those of the browser, and those remembered for the person. ``chosen``, if it is theirs, is among them even
    if it is not the newest: who clicks at AWS again in another tab goes on in this one.
    """
    mine = Q(pk__in=in_browser(request))
    if request.user.is_authenticated:
        mine |= Q(user=request.user, agreement__organization=None)
    theirs = Registration.objects.filter(mine).order_by()
    newest = theirs.values("agreement").annotate(newest=Max("pk")).values("newest")
    is_over = Case(When(agreement__status__in=OVER, then=1), default=0)
    return list(
        theirs.filter(Q(pk__in=newest) | Q(pk=chosen))
        .select_related("agreement__product", "agreement__customer", "agreement__organization")
        .order_by(is_over, "-created_at", "-pk")[:_SHOWN]
    )


def came_for_something(request: HttpRequest) -> bool:
    """Whether the browser holds an arrival that can still be set up."""
    arrivals = Registration.objects.filter(pk__in=in_browser(request), agreement__organization=None)
    return arrivals.exclude(agreement__status__in=OVER).exists()


def of_visitor(request: HttpRequest, pk: int, *, user: User) -> Registration | None:
    """The arrival ``pk`` if it is the browser's or the person's, also when it is claimed by now."""
    mine = Q(pk__in=in_browser(request)) | Q(user=user)
    return Registration.objects.filter(mine, pk=pk).first()


def unclaimed_of(user: Any) -> QuerySet[Registration]:
    """The arrivals remembered for ``user`` that can still be set up. Also in a subquery: an OuterRef."""
    return Registration.objects.filter(user=user, agreement__organization=None).exclude(
        agreement__status__in=OVER
    )


def dismiss(request: HttpRequest, response: HttpResponse, registration: Registration, *, by: User) -> None:
    """The purchase is not this person's: forget every arrival of it in this browser and for them."""
    arrivals = Registration.objects.filter(agreement=registration.agreement_id, agreement__organization=None)
    for arrival in arrivals.filter(pk__in=in_browser(request)):
        forget(response, arrival)
    arrivals.filter(user=by).update(user=None)


@receiver(user_logged_in)
def _remember_for_user(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Fires after the mailed code and MFA."""
    remember_for(user, request, now=timezone.now())


def remember_for(user: User, request: HttpRequest, *, now: datetime) -> None:
    """Keep the browser's arrivals for the person, so that another browser or a day's delay loses nothing.

    Nothing is bound yet: that takes their confirmation. Who does not come back to it is reminded, once.
    """
    found = Registration.objects.filter(pk__in=in_browser(request), user=None, agreement__organization=None)
    pks = list(found.values_list("pk", flat=True))
    if not pks or not user.emailaddress_set.filter(verified=True).exists():
        return
    with transaction.atomic():
        Registration.objects.filter(pk__in=pks, user=None).update(user=user)
        for agreement in Agreement.objects.filter(registrations__in=pks).exclude(status__in=OVER).distinct():
            owed.owe(agreement, [personal_mails.unfinished(user, at=now)])
