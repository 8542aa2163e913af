"""Adapters that keep count of places, as a seller of seats would."""

import time

from accounts import organizations
from accounts.adapter import AccountsAdapter


class TwoPlaces(AccountsAdapter):
    places = 2

    def may_add_member(self, organization, *, now):
        if organizations.places_taken(organization, now=now) < self.places:
            return None
        return f"All {self.places} places are taken. Buy more."


class OnePlace(TwoPlaces):
    places = 1


class SlowTwoPlaces(TwoPlaces):
    """Slow enough that another, who did not wait for the lock, would count the same places."""

    def may_add_member(self, organization, *, now):
        answer = super().may_add_member(organization, now=now)
        time.sleep(0.2)
        return answer
