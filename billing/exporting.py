"""Billing's part of an organization's or a person's exported data, one row after the other.

AWS account numbers are masked as on every page: not everybody who runs a workspace has the account.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from accounts.adapter import Part
from accounts.models import Organization, User
from billing import tenures
from billing.models import Agreement, Entitlement, MeteringRecord
from billing.tenures import Tenures

# So many rows are in memory at a time.
CHUNK = 2000

Row = dict[str, Any]


def of_organization(organization: Organization) -> Iterator[Part]:
    held = tenures.read(organization)
    yield "purchases", _purchases(organization)
    yield "earlier_purchases", _earlier(held)
    yield "entitlements", _entitlements(organization)
    yield "arrivals", _arrivals(held.arrivals())
    yield "join_requests", _join_requests(organization.join_requests)
    yield "reported_usage", _reported(held)
    yield "usage", _usage(organization)
    yield "archived_usage", _archived(organization)


def of_person(user: User) -> Iterator[Part]:
    yield "arrivals", _arrivals(user.marketplace_registrations)
    yield "join_requests", _join_requests(user.join_requests)


def _purchases(organization: Organization) -> Iterator[Row]:
    agreements = organization.agreements.select_related("product", "customer").order_by("pk")
    for agreement in agreements.iterator(chunk_size=CHUNK):
        yield {
            "id": agreement.pk,
            "product": agreement.product.title,
            "aws_account": agreement.customer.masked,
            **{name: getattr(agreement, name) for name in _OF_AGREEMENT},
        }


def _earlier(held: Tenures) -> Iterator[Row]:
    """Those that were moved to another workspace: only that it had them, and until when."""
    gone = Agreement.objects.filter(held.agreements).exclude(organization=held.organization)
    for agreement in gone.select_related("product", "customer").order_by("pk").iterator(chunk_size=CHUNK):
        until = [span.end for span in held.moved[agreement.pk]]
        yield {
            "id": agreement.pk,
            "product": agreement.product.title,
            "aws_account": agreement.customer.masked,
            "moved_away_at": until[-1],
        }


_OF_AGREEMENT = (
    "agreement_id", "license_id", "offer_id", "status", "claimed_at", "activated_at", "free_trial",
    "trial_ends_at", "term_starts_at", "term_ends_at", "auto_renews", "ended_at", "end_reason", "previous_id",
)  # fmt: skip


def _entitlements(organization: Organization) -> Iterator[Row]:
    rows = Entitlement.objects.filter(agreement__organization=organization).order_by("pk")
    for row in rows.iterator(chunk_size=CHUNK):
        yield {
            "purchase": row.agreement_id,
            "dimension": row.dimension_key,
            "value": row.value,
            "expires_at": row.expires_at,
            "valid_from": row.valid_from,
            "valid_to": row.valid_to,
        }


def _arrivals(registrations: Any) -> Iterator[Row]:
    """Never their digests: who has a token would know it again by them."""
    names = ("agreement_id", "created_at", "claimed_at", "answers")
    for row in registrations.order_by("pk").values(*names).iterator(chunk_size=CHUNK):
        yield _named(row, purchase="agreement_id")


def _join_requests(requests: Any) -> Iterator[Row]:
    names = ("created_at", "user__email", "organization__name", "is_approved", "answered_at")
    for row in requests.order_by("pk").values(*names).iterator(chunk_size=CHUNK):
        if not row["is_approved"]:
            # Who asked was told no more than a masked address of whom to ask.
            row["organization__name"] = None
        yield _named(row, asked_by="user__email", workspace="organization__name", approved="is_approved")


def _reported(held: Tenures) -> Iterator[Row]:
    """What AWS is told of its hours. Of how each record fares only what pages say: in whose hands it is."""
    names = ("agreement_id", "dimension__key", "hour", "used", "included", "quantity", "state")
    agreements = Agreement.objects.filter(held.agreements).order_by().values("pk")
    records = MeteringRecord.objects.filter(held.in_hours(), agreement__in=agreements).order_by("pk")
    for row in records.values(*names).iterator(chunk_size=CHUNK):
        yield _named(row, purchase="agreement_id", dimension="dimension__key", billed="quantity")


def _usage(organization: Organization) -> Iterator[Row]:
    names = (
        "agreement_id",
        "dimension__key",
        "quantity",
        "occurred_at",
        "recorded_at",
        "key",
        "tags",
        "disposition",
    )
    events = organization.usage_events.order_by("pk")
    for row in events.values(*names).iterator(chunk_size=CHUNK):
        yield _named(row, purchase="agreement_id", dimension="dimension__key")


def _archived(organization: Organization) -> Iterator[Row]:
    """Days whose single uses are in the archive: what its own add up to."""
    names = ("agreement_id", "dimension__key", "day", "disposition", "quantity", "event_count")
    totals = organization.archived_totals.order_by("day", "pk")
    for row in totals.values(*names).iterator(chunk_size=CHUNK):
        yield _named(row, purchase="agreement_id", dimension="dimension__key", uses="event_count")


def _named(row: Mapping[str, Any], **columns: str) -> Row:
    """The row under the names we give to some of its columns, quantities exact and without an exponent."""
    names = {column: name for name, column in columns.items()}
    return {
        names.get(column, column): f"{value.normalize():f}" if isinstance(value, Decimal) else value
        for column, value in row.items()
    }
