"""What crosses the seam: frozen values, and the Protocol that the flows know AWS by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

EntitlementValue = int | float | bool | str


@dataclass(frozen=True, slots=True)
class ResolvedCustomer:
    """ResolveCustomer's answer: a ``license_arn``, or from legacy listings a ``customer_identifier``."""

    product_code: str
    aws_account_id: str | None
    customer_identifier: str | None
    license_arn: str | None
    agreement_id: str | None


@dataclass(frozen=True, slots=True)
class GrantedEntitlement:
    """One row of GetEntitlements."""

    dimension: str
    value: EntitlementValue
    expires_at: datetime | None
    license_arn: str | None
    aws_account_id: str | None
    customer_identifier: str | None


@dataclass(frozen=True, slots=True)
class Allocation:
    quantity: str
    tags: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class UsageLine:
    """One UsageRecord in its frozen form. ``reference`` is ours and never leaves: it names the answer."""

    reference: int
    license_arn: str | None
    product_code: str | None
    aws_account_id: str | None
    customer_identifier: str | None
    dimension: str
    timestamp: datetime
    quantity: str
    allocations: tuple[Allocation, ...] = ()


@dataclass(frozen=True, slots=True)
class UsageOutcome:
    """What AWS said of one line: its Status ("Success", …) and MeteringRecordId."""

    reference: int
    status: str
    metering_record_id: str | None


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """BatchMeterUsage's answer. Lines in neither list got no answer at all."""

    outcomes: tuple[UsageOutcome, ...]
    unprocessed: tuple[int, ...]
    request_id: str


@dataclass(frozen=True, slots=True)
class AgreementDetails:
    """The parts of DescribeAgreement that tell what an event does not."""

    status: str
    initial_agreement_id: str | None
    starts_at: datetime | None
    ends_at: datetime | None
    trial_ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """One SQS message. ``receipt`` deletes it, or keeps it hidden."""

    queue_url: str
    message_id: str
    receipt: str
    body: str
    sent_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EntitlementFilter:
    """Whose entitlements to read: one license, or one customer of a legacy product."""

    product_code: str
    license_arn: str | None = None
    aws_account_id: str | None = None
    customer_identifier: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach AWS: see MARKETPLACE in the settings."""

    metering_region: str = "us-east-1"
    role_arn: str | None = None
    role_external_id: str | None = None
    describe_agreements: bool = False
    connect_timeout: float = 3.0
    read_timeout: float = 10.0


class Marketplace(Protocol):
    """AWS Marketplace as the flows use it. Every method raises billing.aws.errors.MarketplaceError."""

    @property
    def metering_region(self) -> str: ...

    def resolve_customer(self, token: str) -> ResolvedCustomer: ...

    def get_entitlements(self, of: EntitlementFilter) -> list[GrantedEntitlement]: ...

    def list_entitlements(self, product_code: str) -> Iterator[GrantedEntitlement]: ...

    def batch_meter_usage(self, lines: Sequence[UsageLine], *, region: str) -> BatchAnswer: ...

    def describe_agreement(self, agreement_id: str) -> AgreementDetails | None: ...

    def receive_messages(
        self, queue_url: str, *, wait_seconds: int, visibility_seconds: int
    ) -> list[QueueMessage]: ...

    def delete_messages(self, messages: Iterable[QueueMessage]) -> None: ...

    def extend_visibility(self, messages: Iterable[QueueMessage], *, seconds: int) -> None: ...
