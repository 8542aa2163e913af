"""Finding rows by what a person has in hand: an AWS account, a license, an agreement id, an e-mail address.

In two steps, purchases first and then their rows: an OR across joins would read a whole ledger.
"""

from __future__ import annotations

from django.db.models import Q

from accounts.models import Organization
from billing import customers
from billing.models import Agreement, MarketplaceCustomer

_MOST_AGREEMENTS = 200  # of one customer or organization


def normalized(term: str) -> str:
    """What was pasted, as it is stored: 1234-5678-9012 without its dashes, a license ARN as its l-… id."""
    text = term.strip()
    digits = text.replace("-", "").replace(" ", "")
    if digits.isdecimal():
        return digits
    try:
        return customers.license_id(text)
    except ValueError:
        return text


def agreements(term: str) -> list[int]:
    """The purchases that ``term`` (normalized) names, as primary keys."""
    found = Q(license_id=term) | Q(agreement_id=term)
    buyers = MarketplaceCustomer.objects.filter(Q(aws_account_id=term) | Q(customer_identifier=term))
    if pks := list(buyers.values_list("pk", flat=True)):
        found |= Q(customer__in=pks)
    if "@" in term:
        teams = Organization.objects.filter(memberships__user__email=term.lower())
        found |= Q(organization__in=list(teams.values_list("pk", flat=True)[:_MOST_AGREEMENTS]))
    return list(Agreement.objects.filter(found).order_by().values_list("pk", flat=True)[:_MOST_AGREEMENTS])


def row_number(term: str) -> int | None:
    """The logs name rows by their number."""
    return int(term) if term.isascii() and term.isdecimal() and len(term) < 12 else None
