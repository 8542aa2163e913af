"""Plain factories for the money tests: agreements, usage, records at fixed instants, and a scripted AWS."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from accounts.models import Organization
from billing import usage
from billing.aws import wire
from billing.aws.types import (
    AgreementDetails,
    BatchAnswer,
    EntitlementFilter,
    GrantedEntitlement,
    QueueMessage,
    ResolvedCustomer,
    UsageLine,
    UsageOutcome,
)
from billing.aws.window import accepted_until, hour_of
from billing.customers import license_id
from billing.models import (
    Agreement,
    Entitlement,
    MarketplaceCustomer,
    MeteringRecord,
    Product,
    UsageEvent,
)

# A Monday in the middle of a month; what a test does not say happens around it.
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BEGIN = NOON - timedelta(days=2)
REGION = "us-east-1"

_numbers = itertools.count(1)

if TYPE_CHECKING:
    from tests.plugin import Aws


def license_arn(number: int | str) -> str:
    return f"arn:aws:license-manager::294406891311:license:l-{number:0>32}"


def make_agreement(
    catalog: dict[str, Product],
    organization: Organization | None,
    product_code: str = "reports-payg",
    *,
    activated_at: datetime | None = BEGIN,
    ended_at: datetime | None = None,
    closes_at: datetime | None = None,
    account: str | None = None,
    entitlements_read_at: datetime | None = BEGIN,
    **fields: Any,
) -> Agreement:
    """An agreement as AWS's events would have left it."""
    number = next(_numbers)
    legacy = product_code == "reports-classic"
    customer, _ = MarketplaceCustomer.objects.get_or_create(
        aws_account_id=account or f"{number:012}",
        defaults={"customer_identifier": f"cust{number}" if legacy else None},
    )
    status = "pending" if activated_at is None else "ending" if ended_at else "active"
    identity = {"identity": "legacy"} if legacy else {
        "identity": "license", "license_arn": license_arn(number), "license_id": f"l-{number:032}",
    }  # fmt: skip
    return Agreement.objects.create(
        product=catalog[product_code],
        customer=customer,
        organization=organization,
        activated_at=activated_at,
        ended_at=ended_at,
        metering_closes_at=closes_at,
        entitlements_read_at=entitlements_read_at,
        **{"status": status, "agreement_id": f"agmt-{number}", **identity, **fields},
    )


def bought_agreement(
    aws: Aws,
    catalog: dict[str, Product],
    organization: Organization,
    product_code: str = "reports-payg",
    **options: Any,
) -> Agreement:
    """An agreement that the simulator knows too, begun at BEGIN."""
    bought = aws.buy(product_code, started_at=BEGIN, **options)
    ids: dict[str, Any] = {"agreement_id": bought.agreement_id, "activated_at": BEGIN + timedelta(seconds=5)}
    if bought.license_arn is not None:
        ids |= {"license_arn": bought.license_arn, "license_id": license_id(bought.license_arn)}
    agreement = make_agreement(catalog, organization, product_code, account=bought.aws_account_id, **ids)
    return agreement


def use(
    agreement: Agreement,
    quantity: Decimal | int | str = 1,
    *,
    at: datetime = NOON - timedelta(minutes=30),
    now: datetime | None = None,
    key: str = "",
    tags: dict[str, str] | None = None,
    dimension: str = "pages",
) -> UsageEvent:
    """Usage recorded when it occurred, unless ``now`` says later."""
    assert agreement.organization is not None
    return usage.record(
        agreement.organization,
        dimension,
        quantity,
        key=key or f"use-{next(_numbers)}",
        tags=tags,
        occurred_at=at,
        agreement=agreement,
        now=now or at,
    )


def entitle(
    agreement: Agreement,
    value: int | float,
    *,
    since: datetime = BEGIN,
    until: datetime | None = None,
    key: str = "included_pages",
) -> Entitlement:
    column = "integer_value" if isinstance(value, int) else "double_value"
    return Entitlement.objects.create(
        agreement=agreement, dimension_key=key, valid_from=since, valid_to=until, **{column: value}
    )


def make_record(
    agreement: Agreement, hour: datetime, quantity: Decimal | int | str = 1, **fields: Any
) -> MeteringRecord:
    """A closed hour, ready to be sent."""
    amount = Decimal(quantity)
    identity = (
        {"wire_license_arn": agreement.license_arn}
        if agreement.identity == "license"
        else {"wire_product_code": agreement.product.code}
    )
    return MeteringRecord.objects.create(
        agreement=agreement,
        hour=hour_of(hour),
        **{
            "dimension": agreement.product.dimensions.get(key="pages"),
            "used": amount,
            "included": 0,
            "quantity": amount,
            "wire_account_id": agreement.customer.aws_account_id,
            "wire_region": REGION,
            "wire_timestamp": hour_of(hour),
            "wire_quantity": wire.quantity_text(amount),
            "submit_by": accepted_until(hour_of(hour), closes_at=agreement.metering_closes_at),
            **identity,
            **fields,
        },
    )


Answer = BatchAnswer | Exception | None
Script = Callable[[Sequence[UsageLine]], Answer]


class ScriptedAws:
    """The Marketplace protocol for answers that the simulator cannot give.

    ``script`` answers each batch: an answer, an exception to raise, or None to accept everything.
    """

    metering_region = REGION

    def __init__(
        self,
        *answers: Script | Answer,
        entitlements: Sequence[Sequence[GrantedEntitlement]] = (),
        listed: Sequence[GrantedEntitlement | Exception] = (),
    ) -> None:
        self._answers = list(answers)
        self._listed = list(listed)
        self._one_at_a_time = threading.Lock()  # calls come from many threads
        self._entitlements = list(entitlements)
        self.batches: list[tuple[str, tuple[UsageLine, ...]]] = []
        self.filters: list[EntitlementFilter] = []

    def batch_meter_usage(self, lines: Sequence[UsageLine], *, region: str) -> BatchAnswer:
        with self._one_at_a_time:
            self.batches.append((region, tuple(lines)))
            answer = self._answers.pop(0) if len(self._answers) > 1 else (self._answers or [None])[0]
        if callable(answer):
            answer = answer(lines)
        if isinstance(answer, Exception):
            raise answer
        return answer or says("Success", lines)

    def get_entitlements(self, of: EntitlementFilter) -> list[GrantedEntitlement]:
        self.filters.append(of)
        rows = self._entitlements.pop(0) if len(self._entitlements) > 1 else self._entitlements[0]
        return list(rows)

    def list_entitlements(self, product_code: str) -> Iterator[GrantedEntitlement]:
        """The rows of ``listed``, whatever the product; an exception among them is raised there."""
        for row in self._listed:
            if isinstance(row, Exception):
                raise row
            yield row

    def resolve_customer(self, token: str) -> ResolvedCustomer:
        raise NotImplementedError

    def describe_agreement(self, agreement_id: str) -> AgreementDetails | None:
        return None

    def receive_messages(
        self, queue_url: str, *, wait_seconds: int, visibility_seconds: int
    ) -> list[QueueMessage]:
        raise NotImplementedError

    def delete_messages(self, messages: Iterable[QueueMessage]) -> None:
        raise NotImplementedError

    def extend_visibility(self, messages: Iterable[QueueMessage], *, seconds: int) -> None:
        raise NotImplementedError


def says(status: str, lines: Sequence[UsageLine]) -> BatchAnswer:
    """AWS's answer of one status for every line."""
    return BatchAnswer(
        tuple(
            UsageOutcome(line.reference, status, f"id-{line.reference}" if status == "Success" else None)
            for line in lines
        ),
        (),
        "request-1",
    )


def granted(dimension: str, value: int | float | bool | str, **fields: Any) -> GrantedEntitlement:
    return GrantedEntitlement(
        dimension=dimension,
        value=value,
        **{
            "expires_at": None,
            "license_arn": None,
            "aws_account_id": None,
            "customer_identifier": None,
            **fields,
        },
    )
