"""Adapters that keep count of places, as a seller of seats would."""

import time

from accounts import organizations
from accounts.adapter import AccountsAdapter


class TwoPlaces(AccountsAdapter):
    limit = 2

    def may_add_member(self, organization, *, now):
        if organizations.places_taken(organization, now=now) < self.limit:
            return None
        return f"All {self.limit} places are taken. Buy more."


class OnePlace(TwoPlaces):
    limit = 1


class SlowTwoPlaces(TwoPlaces):
    """Slow enough that another, who did not wait for the lock, would count the same places."""

    def may_add_member(self, organization, *, now):
        answer = super().may_add_member(organization, now=now)
        time.sleep(0.2)
        return answer
