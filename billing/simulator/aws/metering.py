"""BatchMeterUsage (facts page §1.4 and §3): the whole batch is checked before any record of it is billed.

Order of checks: shape, product and license, dimension, timestamp, allocations and tags, then each record's
own status.
"""

from __future__ import annotations

import math
import sys
import uuid
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from billing.simulator.aws.allocations import Allocations, check_allocations, quantity_of
from billing.simulator.aws.bounds import BATCH_METER_USAGE
from billing.simulator.aws.call import Call
from billing.simulator.aws.shapes import Json, parse
from billing.simulator.aws.window import check_window, hour_of, instant_of, out_of_bounds
from billing.simulator.catalog import Product
from billing.simulator.errors import AwsError, ShapeViolation
from billing.simulator.records import Agreement, BilledRecord, BillingKey
from billing.simulator.state import State
from billing.simulator.switches import Switches


@dataclass(slots=True)
class _Usage:
    """One record of a batch, and what it was found to concern."""

    record: Json
    reference: str
    """The license ARN or product code it is metered under: the first half of AWS's idea of sameness."""
    account: str
    agreement: Agreement | None = None
    dimension: str = ""
    timestamp: datetime | None = None
    quantity: Decimal = Decimal(0)
    allocations: Allocations = ()


def batch_meter_usage(state: State, body: Json, call: Call) -> Json:
    request = parse(BATCH_METER_USAGE, body)
    region = sys.intern(call.region)
    with state.lock:
        now, switches = state.clock.now(), state.switches
        for record in request["UsageRecords"]:
            _check_members(record, switches)
        product, usages = _identify(state, request, switches)
        for usage in usages:
            usage.dimension = _dimension(product, usage.record["Dimension"])
        for usage in usages:
            _place_in_time(state, usage, product, now=now)
        for usage in usages:
            usage.quantity = quantity_of(usage.record)
            usage.allocations = check_allocations(usage.record, usage.quantity)
        processed = len(usages) - math.ceil(len(usages) * call.unprocessed_share)
        results = [_bill(state, usage, region=region, now=now) for usage in usages[:processed]]
    return {"Results": results, "UnprocessedRecords": [usage.record for usage in usages[processed:]]}


def _check_members(record: Json, switches: Switches) -> None:
    if "Quantity" in record and "QuantityAsDecimal" in record:
        raise ShapeViolation("Quantity and QuantityAsDecimal are mutually exclusive.")
    if "CustomerIdentifier" in record and "CustomerAWSAccountId" in record:
        raise AwsError(
            switches.both_customer_ids_code,
            "CustomerIdentifier and CustomerAWSAccountId are mutually exclusive.",
        )
    if "CustomerIdentifier" not in record and "CustomerAWSAccountId" not in record:
        raise ShapeViolation("A usage record needs a CustomerAWSAccountId.")


def _identify(state: State, request: Json, switches: Switches) -> tuple[Product | None, list[_Usage]]:
    code: str | None = request.get("ProductCode")
    if code is not None and code not in state.products.data:
        raise AwsError("InvalidProductCodeException", f"The product code {code} is not one of yours.")
    usages = []
    codes = {code} if code is not None else set()
    for record in request["UsageRecords"]:
        if "LicenseArn" in record:
            if code is not None:
                _refuse_or_note_both_identities(state, switches)
            agreement = _licensed(state, record)
            codes.add(agreement.product_code)
            # The agreement's own strings: a million records then share them.
            reference = agreement.license_arn or ""
            usages.append(_Usage(record, reference, agreement.aws_account_id, agreement))
        elif code is not None:
            account = _account_of(state, record, code)
            usages.append(_Usage(record, state.products.data[code].code, account))
        else:
            raise AwsError(switches.no_identity_code, "Neither a ProductCode nor a LicenseArn was given.")
    if len(codes) > 1:
        raise AwsError("InvalidLicenseException", "The licenses of one request must be of one product.")
    return (state.product(codes.pop()) if codes else None), usages


def _refuse_or_note_both_identities(state: State, switches: Switches) -> None:
    if switches.product_code_with_license == "refuse":
        raise AwsError("ValidationException", "ProductCode and LicenseArn are mutually exclusive.")
    state.lint("double billing: ProductCode and LicenseArn in one request")


def _licensed(state: State, record: Json) -> Agreement:
    if "CustomerIdentifier" in record:
        raise AwsError(
            "InvalidCustomerIdentifierException", "CustomerIdentifier is not supported with LicenseArn."
        )
    arn, account = record["LicenseArn"], record["CustomerAWSAccountId"]
    agreement = state.agreement_of_license(arn)
    if agreement is None or agreement.aws_account_id != account:
        raise AwsError("InvalidLicenseException", f"The license {arn} is not one of customer {account}.")
    return agreement


def _account_of(state: State, record: Json, code: str) -> str:
    """The account a legacy record names; new integrations have no CustomerIdentifier (facts page §0)."""
    if "CustomerAWSAccountId" in record:
        return sys.intern(record["CustomerAWSAccountId"])
    identifier = record["CustomerIdentifier"]
    account = state.account_of_identifier(identifier)
    if account is None:
        raise AwsError("InvalidCustomerIdentifierException", f"There is no customer {identifier}.")
    own = state.agreements_of(code, account)
    if own and not any(agreement.customer_identifier for agreement in own):
        raise AwsError(
            "InvalidCustomerIdentifierException", f"{code} does not support CustomerIdentifier: it is new."
        )
    return account


def _dimension(product: Product | None, key: str) -> str:
    dimension = product.dimensions.get(key) if product else None
    if dimension is None or dimension.kind != "metered":
        raise AwsError("InvalidUsageDimensionException", f"The usage dimension {key} does not exist.")
    return dimension.key


def _place_in_time(state: State, usage: _Usage, product: Product | None, *, now: datetime) -> None:
    """Check the timestamp; a legacy record learns by it which purchase of the account it belongs to."""
    timestamp = usage.timestamp = instant_of(usage.record["Timestamp"])
    check_window(timestamp, now=now, switches=state.switches)
    is_licensed = usage.agreement is not None
    if not is_licensed and product is not None:
        own = state.agreements_of(product.code, usage.account)
        usage.agreement = _holding(own, timestamp, now=now)
    agreement = usage.agreement
    if agreement is None:
        return
    if timestamp < agreement.starts_at:
        raise out_of_bounds("before the purchase starts")
    if (
        is_licensed
        and state.switches.usage_after_deprovisioning_refused
        and agreement.deprovisioned_at is not None
        and timestamp > agreement.deprovisioned_at
        and agreement.is_metered(now)
    ):
        raise AwsError("InvalidLicenseException", "The usage is outside the license's active period.")


def _holding(own: list[Agreement], timestamp: datetime, *, now: datetime) -> Agreement | None:
    """Of an account's purchases the one whose period holds the instant, not merely the newest."""
    started = [agreement for agreement in own if agreement.starts_at <= timestamp]
    holding = [
        agreement
        for agreement in started
        if agreement.deprovisioned_at is None or timestamp <= agreement.deprovisioned_at
    ]
    metered = [agreement for agreement in holding if agreement.is_metered(now)]
    return max(metered or holding or started or own, key=lambda agreement: agreement.starts_at, default=None)


def _bill(state: State, usage: _Usage, *, region: str, now: datetime) -> Json:
    agreement, timestamp = usage.agreement, usage.timestamp
    if (
        agreement is None
        or timestamp is None
        or not agreement.is_metered(now)
        or agreement.aws_account_id in state.suspensions.data
    ):
        return {"UsageRecord": usage.record, "Status": "CustomerNotSubscribed"}
    hour = hour_of(timestamp)
    key: BillingKey = (region, usage.reference, usage.account, usage.dimension, hour)
    billed = state.billed.data.get(key)
    if billed is not None:
        return _repeat(usage, billed, state.switches)
    record_id = str(uuid.uuid4())
    state.billed[key] = BilledRecord(
        key=key,
        metering_record_id=record_id,
        agreement_id=agreement.agreement_id,
        quantity=usage.quantity,
        allocations=usage.allocations,
        timestamp=hour if timestamp == hour else timestamp,
    )
    if agreement.license_arn:
        _note_double_billing(state, agreement, key)
    return {"UsageRecord": usage.record, "MeteringRecordId": record_id, "Status": "Success"}


def _repeat(usage: _Usage, billed: BilledRecord, switches: Switches) -> Json:
    """The first quantity stays for ever; the same again is harmless, unless switched otherwise (§3.2)."""
    is_identical = usage.allocations is billed.allocations or dict(_by_tags(usage.allocations)) == dict(
        _by_tags(billed.allocations)
    )
    wanted = switches.identical_repeat if is_identical else switches.changed_allocations_repeat
    if billed.quantity != usage.quantity or wanted == "DuplicateRecord":
        return {"UsageRecord": usage.record, "Status": "DuplicateRecord"}
    record_id = billed.metering_record_id if switches.repeat_keeps_metering_record_id else str(uuid.uuid4())
    return {"UsageRecord": usage.record, "MeteringRecordId": record_id, "Status": "Success"}


def _by_tags(allocations: Allocations) -> list[tuple[object, Decimal]]:
    return [(tags, quantity) for quantity, tags in allocations]


def _note_double_billing(state: State, agreement: Agreement, key: BillingKey) -> None:
    """AWS takes one purchase's hour both under its license and under its product code, and bills both."""
    region, reference, account, dimension, hour = key
    other = agreement.product_code if reference == agreement.license_arn else agreement.license_arn or ""
    twin = state.billed.data.get((region, other, account, dimension, hour))
    if twin is not None and twin.agreement_id == agreement.agreement_id:
        state.lint("double billing: one purchase metered under ProductCode and LicenseArn for one hour")
