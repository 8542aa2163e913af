import pytest
from django.core.cache import cache

from accounts.models import Membership


@pytest.fixture(autouse=True)
def accounts_alone(settings):
    """People without billing's opinion, and with rate limits that start afresh."""
    settings.ACCOUNTS_ADAPTER = "accounts.adapter.AccountsAdapter"
    cache.clear()


@pytest.fixture
def make_member(acme, make_user):
    """Further people of acme, in the role that a test is about."""

    def make(role, email):
        return Membership.objects.create(organization=acme, user=make_user(email), role=role)

    return make
