"""Finding rows by what a person has in hand: an AWS account, a license, an agreement id, a name, an e-mail.

In two steps, purchases first and then their rows: an OR across joins would read a whole ledger.
"""

from __future__ import annotations

from django.db.models import Q

from accounts.models import Organization
from billing import customers
from billing.models import Agreement, MarketplaceCustomer, SubmissionLine, UsageEvent

_MOST_AGREEMENTS = 200  # of one customer or organization
_MOST_ORGANIZATIONS = 50  # whose name begins alike
_SHORTEST_NAME = 2  # letters of it
_MOST_ROWS = 200  # that one id or key names


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
    if teams := organizations(term):
        found |= Q(organization__in=teams)
    return list(Agreement.objects.filter(found).order_by().values_list("pk", flat=True)[:_MOST_AGREEMENTS])


def organizations(term: str) -> list[int]:
    """Those that a member's address names, or the beginning of their own name."""
    if "@" in term:
        found = Q(memberships__user__email=term.lower())
    elif len(term) >= _SHORTEST_NAME and not term.isdecimal():
        found = Q(name__istartswith=term)
    else:
        return []
    rows = Organization.objects.filter(found).order_by()
    return list(rows.values_list("pk", flat=True)[:_MOST_ORGANIZATIONS])


def records_sent_in(request_id: str) -> list[int]:
    """The records of the calls that AWS answered under this request id."""
    lines = SubmissionLine.objects.filter(submission__aws_request_id=request_id).order_by()
    return list(lines.values_list("record", flat=True)[:_MOST_ROWS])


def events_with_key(key: str) -> list[int]:
    """The uses that a product recorded under this key. A key is an organization's own: each is asked."""
    rows = UsageEvent.objects.filter(key=key, organization__in=Organization.objects.order_by().values("pk"))
    return list(rows.order_by().values_list("pk", flat=True)[:_MOST_ROWS])


def row_number(term: str) -> int | None:
    """The logs name rows by their number."""
    return int(term) if term.isascii() and term.isdecimal() and len(term) < 12 else None
