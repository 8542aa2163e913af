"""What no AWS source settles, or settles both ways: each a named switch, with our choice as its default.

`POST /_simulator/switches` sets them, `GET` lists them. The marks in brackets are sections of the facts page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, Literal, TypeVar

import msgspec

from billing.simulator.errors import Refused

T = TypeVar("T")
Repeat = Literal["Success", "DuplicateRecord"]


def _switch(default: T, about: str) -> T:
    chosen: T = field(default=default, metadata={"about": about})
    return chosen


@dataclass(frozen=True, slots=True)
class Switches:
    quotas: bool = _switch(
        True, "Throttle beyond AWS's published rates, counted in real time (§3.3). Off in the pytest fixture."
    )
    identical_repeat: Repeat = _switch(
        "Success",
        "What the same record with the same quantity answers (§3.2): the model says it is idempotent, AWS's"
        " agent skill that it may be called a duplicate.",
    )
    repeat_keeps_metering_record_id: bool = _switch(
        True, "An identical repeat answers the first MeteringRecordId (§3.2), or one of its own."
    )
    changed_allocations_repeat: Repeat = _switch(
        "Success", "What a repeat with equal quantity but other UsageAllocations answers (§3.2)."
    )
    shape_error_code: str = _switch(
        "ValidationException", "The code of a broken bound, pattern or required rule (§1.1)."
    )
    oversize_error_code: str = _switch(
        "ValidationException", "The code of a BatchMeterUsage of 1 MB or more (§3.3)."
    )
    both_customer_ids_code: str = _switch(
        "ValidationException", "The code of CustomerIdentifier beside CustomerAWSAccountId (§1.4)."
    )
    no_identity_code: str = _switch(
        "InvalidProductCodeException", "The code of a record with neither ProductCode nor LicenseArn (§1.4)."
    )
    product_code_with_license: Literal["accept", "refuse"] = _switch(
        "accept",
        "ProductCode and LicenseArn in one call (§1.4): accepted and linted, or a ValidationException.",
    )
    future_tolerance_seconds: float = _switch(
        0.0, "How far ahead of AWS's clock a metering timestamp may be (§3.1)."
    )
    window_from_hour_start: bool = _switch(
        False,
        "Measure the 24 hours from the start of the current hour, as once was seen for 6 hours (§3.1).",
    )
    month_end_grace_extends_window: bool = _switch(
        False, "Until 06:00 UTC on the 1st, also take last month's usage older than 24 hours (§3.1)."
    )
    usage_after_deprovisioning_refused: bool = _switch(
        True, "A timestamp after License Deprovisioned is outside the active period: InvalidLicenseException."
    )
    final_hour_opens_with: Literal["License Deprovisioned", "Purchase Agreement Ended"] = _switch(
        "License Deprovisioned", "Which event opens the last metering hour (§3.7); the guide's texts differ."
    )
    token_reuse: bool = _switch(
        True, "A registration token resolves again until it expires, or once only (§2)."
    )
    registration_hints: bool = _switch(
        False, "Post the undocumented x-amzn-marketplace-agreement-id and -product-id with the token (§2)."
    )
    contract_license_updated: bool = _switch(
        True, "Whether License Updated comes for contracts too, or only entitlements appear (§4.2)."
    )
    contract_trial_converts: bool = _switch(
        False, "A contract's free trial runs on as the paid contract, or its agreement expires (§5)."
    )
    future_purchase_created: Literal["start", "acceptance"] = _switch(
        "start", "When Purchase Agreement Created of a future-dated agreement is sent (§5)."
    )
    license_arn_prefix: bool = _switch(
        True, "Print license ARNs in events whole, or as the guide's samples do: without arn:, with a Region."
    )
    sns_body: Literal["enveloped", "raw", "object"] = _switch(
        "enveloped", "An SNS message in a queue: with its envelope, raw, or with Message as an object (§4.1)."
    )
    sns_old_keys: bool = _switch(
        False, "CustomerIdentifier and ProductCode as keys, and stray spaces, as in older texts (§4.1)."
    )
    disabled_regions: tuple[str, ...] = _switch(
        (), "Regions in which the metering API is not enabled: DisabledApiException (§6)."
    )
    foreign_access_keys: tuple[str, ...] = _switch(
        (), "Access keys of an account that did not publish the products (§1.2)."
    )
    foreign_account_code: str = _switch(
        "InvalidTokenException", "What ResolveCustomer answers such an account (§1.2)."
    )


@dataclass(frozen=True, slots=True)
class Timings:
    """How long AWS takes, in simulated time: as seen with a live purchase (facts page §3.7 and §4.2)."""

    agreement_created: timedelta = timedelta(seconds=11)
    license_updated: timedelta = timedelta(seconds=72)
    deprovisioned: timedelta = timedelta(seconds=31)
    final_hour: timedelta = timedelta(minutes=60)
    token_lifetime: timedelta = timedelta(hours=4)
    contract_term: timedelta = timedelta(days=365)
    free_trial: timedelta = timedelta(days=30)


QUICK = Timings(
    agreement_created=timedelta(seconds=2),
    license_updated=timedelta(seconds=5),
    deprovisioned=timedelta(seconds=30),
)
"""For who clicks or tests, and would rather not wait a minute for a license."""


def set_switches(current: Switches, wanted: Mapping[str, Any]) -> Switches:
    """``current`` with what is ``wanted``; raises Refused naming what cannot be."""
    known = asdict(current)
    _refuse_unknown("switch", wanted, known)
    try:
        return msgspec.convert({**known, **wanted}, Switches)
    except msgspec.ValidationError as error:
        raise Refused(f"That cannot be switched so: {error}") from None


def set_timings(current: Timings, wanted: Mapping[str, Any]) -> Timings:
    """``current`` with the given seconds; raises Refused naming what cannot be."""
    _refuse_unknown("timing", wanted, asdict(current))
    for name, seconds in wanted.items():
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 10**9:
            raise Refused(f"{name} is a number of seconds, not below zero")
    return replace(current, **{name: timedelta(seconds=seconds) for name, seconds in wanted.items()})


def describe_switches(current: Switches) -> list[dict[str, Any]]:
    """Name, value, default and meaning of each, for people and for the control API."""
    return [
        {
            "name": switch.name,
            "value": getattr(current, switch.name),
            "default": switch.default,
            "about": switch.metadata["about"],
        }
        for switch in fields(Switches)
    ]


def _refuse_unknown(kind: str, wanted: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    if unknown := sorted(wanted.keys() - known.keys()):
        raise Refused(f"There is no {kind} {', '.join(unknown)}. There are: {', '.join(known)}")
