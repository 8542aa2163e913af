"""BatchMeterUsage (facts page §1.4 and §3): the whole batch is checked before any record of it is billed.

Order of checks: shape, product and license, dimension, timestamp, allocations and tags, then each record's
own status.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from billing.simulator.allocations import Allocations, check_allocations, quantity_of
from billing.simulator.bounds import BATCH_METER_USAGE
from billing.simulator.call import Call
from billing.simulator.catalog import Product
from billing.simulator.errors import AwsError
from billing.simulator.records import Agreement, BilledRecord, BillingKey
from billing.simulator.shapes import Json, parse
from billing.simulator.state import State

WINDOW = timedelta(hours=24)
MONTH_END_HOUR = 6


@dataclass(slots=True)
class _Usage:
    """One record of a batch, and what it was found to concern."""

    record: Json
    reference: str
    """The license ARN or product code it is metered under: the first half of AWS's idea of sameness."""
    account: str
    agreement: Agreement | None
    starts_at: datetime | None
    timestamp: datetime | None = None
    quantity: Decimal = Decimal(0)
    allocations: Allocations = ()


def batch_meter_usage(state: State, body: Json, call: Call) -> Json:
    request = parse(BATCH_METER_USAGE, body)
    with state.lock:
        now = state.clock.now()
        product, usages = _identify(state, request, now=now)
        for usage in usages:
            _check_dimension(product, usage)
        for usage in usages:
            usage.timestamp = _check_timestamp(state, usage, now=now)
        for usage in usages:
            usage.quantity = quantity_of(usage.record)
            usage.allocations = check_allocations(usage.record, usage.quantity)
        processed = len(usages) - math.ceil(len(usages) * call.unprocessed_share)
        results = [_bill(state, usage, region=call.region, now=now) for usage in usages[:processed]]
    return {"Results": results, "UnprocessedRecords": [usage.record for usage in usages[processed:]]}


def _identify(state: State, request: Json, *, now: datetime) -> tuple[Product | None, list[_Usage]]:
    code: str | None = request.get("ProductCode")
    if code is not None and code not in state.products:
        raise AwsError("InvalidProductCodeException", f"The product code {code} is not one of yours.")
    usages = []
    codes = {code} if code is not None else set()
    for record in request["UsageRecords"]:
        _check_members(record)
        if "LicenseArn" in record:
            usage = _under_license(state, record)
            if code is not None:
                state.lint("double billing: ProductCode and LicenseArn in one request")
        elif code is not None:
            usage = _under_product(state, record, code, now=now)
        else:
            raise AwsError("InvalidProductCodeException", "Neither a ProductCode nor a LicenseArn was given.")
        if usage.agreement is not None:
            codes.add(usage.agreement.product_code)
        usages.append(usage)
    if len(codes) > 1:
        raise AwsError("InvalidLicenseException", "The licenses of one request must be of one product.")
    return (state.product(codes.pop()) if codes else None), usages


def _check_members(record: Json) -> None:
    if "Quantity" in record and "QuantityAsDecimal" in record:
        raise AwsError("ValidationException", "Quantity and QuantityAsDecimal are mutually exclusive.")
    if "CustomerIdentifier" in record and "CustomerAWSAccountId" in record:
        raise AwsError(
            "ValidationException", "CustomerIdentifier and CustomerAWSAccountId are mutually exclusive."
        )
    if "CustomerIdentifier" not in record and "CustomerAWSAccountId" not in record:
        raise AwsError("ValidationException", "A usage record needs a CustomerAWSAccountId.")


def _under_license(state: State, record: Json) -> _Usage:
    arn: str = record["LicenseArn"]
    if "CustomerIdentifier" in record:
        raise AwsError(
            "InvalidCustomerIdentifierException", "CustomerIdentifier is not supported with LicenseArn."
        )
    agreement = state.agreement_of_license(arn)
    account: str = record["CustomerAWSAccountId"]
    if agreement is None or agreement.aws_account_id != account:
        raise AwsError("InvalidLicenseException", f"The license {arn} is not one of customer {account}.")
    return _Usage(record, arn, account, agreement, agreement.starts_at)


def _under_product(state: State, record: Json, code: str, *, now: datetime) -> _Usage:
    """Legacy metering names a customer, not an agreement: the newest one that takes usage is meant."""
    account = record.get("CustomerAWSAccountId")
    if account is None:
        account = _account_of(state, record["CustomerIdentifier"])
    own = state.agreements_of(code, account)
    open_now = [agreement for agreement in own if agreement.is_metered(now)]
    latest = max(open_now or own, key=lambda agreement: agreement.starts_at, default=None)
    starts_at = min((agreement.starts_at for agreement in own), default=None)
    return _Usage(record, code, account, latest, starts_at)


def _account_of(state: State, identifier: str) -> str:
    account = state.account_of_identifier(identifier)
    if account is None:
        raise AwsError("InvalidCustomerIdentifierException", f"There is no customer {identifier}.")
    return account


def _check_dimension(product: Product | None, usage: _Usage) -> None:
    key = usage.record["Dimension"]
    dimension = product.dimensions.get(key) if product else None
    if dimension is None or dimension.kind != "metered":
        raise AwsError("InvalidUsageDimensionException", f"The usage dimension {key} does not exist.")


def _check_timestamp(state: State, usage: _Usage, *, now: datetime) -> datetime:
    seconds: int | float = usage.record["Timestamp"]
    try:
        timestamp = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        raise _out_of_bounds("not an instant of any calendar") from None
    if timestamp > now + timedelta(seconds=state.switches.future_tolerance_seconds):
        raise _out_of_bounds("in the future")
    if now - timestamp >= WINDOW:
        raise _out_of_bounds("24 hours old or older")
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if timestamp < month and now >= month.replace(hour=MONTH_END_HOUR):
        raise _out_of_bounds("in a billing month that is closed")
    if usage.starts_at is not None and timestamp < usage.starts_at:
        raise _out_of_bounds("before the license starts")
    _check_license_period(state, usage, timestamp, now=now)
    return timestamp


def _out_of_bounds(reason: str) -> AwsError:
    return AwsError("TimestampOutOfBoundsException", f"The timestamp is {reason}.")


def _check_license_period(state: State, usage: _Usage, timestamp: datetime, *, now: datetime) -> None:
    agreement = usage.agreement
    if agreement is None or agreement.deprovisioned_at is None or not agreement.is_metered(now):
        return
    if state.switches.usage_after_deprovisioning_refused and timestamp > agreement.deprovisioned_at:
        raise AwsError("InvalidLicenseException", "The usage is outside the license's active period.")


def _bill(state: State, usage: _Usage, *, region: str, now: datetime) -> Json:
    agreement, timestamp = usage.agreement, usage.timestamp
    if agreement is None or timestamp is None or not agreement.is_metered(now):
        return {"UsageRecord": usage.record, "Status": "CustomerNotSubscribed"}
    hour = timestamp.replace(minute=0, second=0, microsecond=0)
    key: BillingKey = (region, usage.reference, usage.account, usage.record["Dimension"], hour)
    billed = state.billed.get(key)
    if billed is None:
        billed = state.billed[key] = BilledRecord(
            key=key,
            metering_record_id=str(uuid.uuid4()),
            agreement_id=agreement.agreement_id,
            quantity=usage.quantity,
            allocations=usage.allocations,
            timestamp=timestamp,
        )
    elif billed.quantity != usage.quantity or state.switches.identical_repeat == "DuplicateRecord":
        return {"UsageRecord": usage.record, "Status": "DuplicateRecord"}
    return {"UsageRecord": usage.record, "MeteringRecordId": billed.metering_record_id, "Status": "Success"}
