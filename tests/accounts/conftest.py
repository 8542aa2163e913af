import pytest
from django.core.cache import cache


@pytest.fixture(autouse=True)
def accounts_alone(settings):
    """People without billing's opinion, and with rate limits that start afresh."""
    settings.ACCOUNTS_ADAPTER = "accounts.adapter.AccountsAdapter"
    cache.clear()
