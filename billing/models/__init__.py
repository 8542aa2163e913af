"""The rows of billing. Rows that came from AWS or went to AWS are never deleted."""

from billing.models.audit import AuditCheckpoint, AuditEvent, AuditHead
from billing.models.catalog import Dimension, Product
from billing.models.customers import Agreement, MarketplaceCustomer, Registration
from billing.models.entitlements import Entitlement
from billing.models.events import Effect, MarketplaceEvent
from billing.models.fields import QuantityField
from billing.models.jobs import JobRun, Lease
from billing.models.joining import JoinRequest
from billing.models.metering import MeteringRecord, Submission, SubmissionLine
from billing.models.moves import AgreementMove
from billing.models.operator_tasks import OperatorTask
from billing.models.reconciliation import UsageReport, UsageReportLine
from billing.models.retention import ArchivedUsageKey, UsageArchive, UsageArchiveTotal
from billing.models.usage import UsageEvent

__all__ = [
    "Agreement",
    "AgreementMove",
    "ArchivedUsageKey",
    "AuditCheckpoint",
    "AuditEvent",
    "AuditHead",
    "Dimension",
    "Effect",
    "Entitlement",
    "JobRun",
    "JoinRequest",
    "Lease",
    "MarketplaceCustomer",
    "MarketplaceEvent",
    "MeteringRecord",
    "OperatorTask",
    "Product",
    "QuantityField",
    "Registration",
    "Submission",
    "SubmissionLine",
    "UsageArchive",
    "UsageArchiveTotal",
    "UsageEvent",
    "UsageReport",
    "UsageReportLine",
]
