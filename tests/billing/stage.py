"""AWS and the app on one clock: time passes for both, what AWS sent comes in, what is due is done."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from accounts.models import Organization, User
from billing import clock, effects, events, gates, registration
from billing.models import Agreement
from billing.simulator.client import Subscription
from tests.billing.ledger import NOON
from tests.billing.notices import message

if TYPE_CHECKING:
    from tests.plugin import Aws

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def take(*bodies: str, now: datetime = NOON) -> None:
    """Let SQS bring these bodies (tests.billing.notices), and apply them."""
    for body in bodies:
        events.store(message(body, sent_at=now), now=now)
    events.apply_received(now=now)


class Stage:
    """Begins at NOON with both clocks frozen. ``pass_time`` plays what the worker does once a minute."""

    def __init__(self, aws: Aws, owner: User, *, now: datetime = NOON) -> None:
        self.aws, self.owner, self.now = aws, owner, now
        aws.control.freeze(now)

    def pass_time(self, by: timedelta = timedelta(), *, delivered: bool = True) -> datetime:
        """Move on, and do what is due; with ``delivered`` off AWS's messages stay in the queue."""
        self.now += by
        self.aws.control.freeze(self.now)
        self.work(delivered=delivered)
        return self.now

    def work(self, *, delivered: bool = True) -> None:
        if delivered:
            self.aws.deliver(now=self.now)
        else:
            events.apply_received(now=self.now)
        clock.advance(now=self.now)
        effects.run_due(self.aws.marketplace, now=self.now)

    def buy(
        self, organization: Organization | None, product_code: str = "reports-flex", **options: Any
    ) -> Agreement:
        """An active purchase, read and claimed for ``organization`` (None: by nobody), ten seconds later."""
        bought = self.aws.buy(product_code, **options)
        arrival = registration.arrive(
            self.aws.marketplace, token=bought.token, free_trial_hint=False, now=self.now
        )
        if organization is not None:
            registration.claim(arrival, by=self.owner, organization=organization, now=self.now)
        self.pass_time(10 * SECOND)
        return Agreement.objects.get(pk=arrival.agreement_id)

    def allows(self, organization: Organization, feature: str = "reports") -> gates.Grant:
        """As a request of now is answered."""
        return gates.allows(Organization.objects.get(pk=organization.pk), feature, now=self.now)


def of(bought: Subscription) -> Agreement:
    """Our row of what was bought."""
    return Agreement.objects.get(agreement_id=bought.agreement_id)
