"""The rows of billing. Rows that came from AWS or went to AWS are never deleted."""

from billing.models.audit import AuditEvent
from billing.models.catalog import Dimension, Product
from billing.models.customers import Agreement, MarketplaceCustomer, Registration
from billing.models.entitlements import Entitlement
from billing.models.events import Effect, MarketplaceEvent
from billing.models.fields import QuantityField
from billing.models.jobs import Lease
from billing.models.joining import JoinRequest
from billing.models.metering import MeteringRecord, Submission, SubmissionLine
from billing.models.usage import UsageEvent

__all__ = [
    "Agreement",
    "AuditEvent",
    "Dimension",
    "Effect",
    "Entitlement",
    "JoinRequest",
    "Lease",
    "MarketplaceCustomer",
    "MarketplaceEvent",
    "MeteringRecord",
    "Product",
    "QuantityField",
    "Registration",
    "Submission",
    "SubmissionLine",
    "UsageEvent",
]
