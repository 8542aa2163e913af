"""Who we are to AWS, what we may call, in which Region, and whether the clocks agree."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta

from django.conf import settings

from billing.aws.errors import MarketplaceError
from billing.doctor.findings import Finding, Patient, bad, good, open_question, refused
from billing.models import MarketplaceEvent, MeteringRecord, Product

# AWS refuses signatures that are minutes off, and usage that lies ahead of its own clock.
_MOST_SKEW = timedelta(seconds=30)
_NEEDS_IDENTITY = "Give the process credentials first."


def look(patient: Patient) -> Iterator[Finding]:
    yield from _credentials(patient)
    if patient.identity is None:
        for check in ("clock", "permissions", "region"):
            yield open_question(check, f"{check.title()}: AWS does not know who asks", fix=_NEEDS_IDENTITY)
        return
    yield _clock(patient)
    yield from _account(patient)
    yield from _permissions(patient)
    yield from _region(patient)


def _credentials(patient: Patient) -> Iterator[Finding]:
    try:
        patient.identity = patient.probes.identity()
    except MarketplaceError as error:
        found = refused("credentials", "Credentials", error)
        role = settings.MARKETPLACE["role_arn"]
        if role and error.code in ("AccessDenied", "AccessDeniedException"):
            found = bad(
                "credentials",
                f"The role {role} cannot be assumed",
                cause=f"{error.code}: {error.meaning.explanation}",
                fix="Its trust must name what this app runs as, and MARKETPLACE_ROLE_EXTERNAL_ID must be its"
                " external id. What the app runs as must be allowed sts:AssumeRole on it:"
                " deploy/aws/app-account.yaml.",
            )
        yield found
        return
    yield good("credentials", f"Credentials: {patient.identity.arn}, account {patient.identity.account}")
    if settings.MARKETPLACE["role_arn"] and not settings.MARKETPLACE["role_external_id"]:
        yield open_question(
            "external id",
            "The role is assumed without an external id",
            fix="Set MARKETPLACE_ROLE_EXTERNAL_ID, and demand it in the role's trust:"
            " deploy/aws/marketplace.yaml.",
        )


def _clock(patient: Patient) -> Finding:
    assert patient.identity is not None
    at_aws = patient.identity.answered_at
    if at_aws is None:
        return open_question("clock", "Clock: AWS's answer had no date")
    skew = abs(patient.now - at_aws)
    if skew > _MOST_SKEW:
        ahead = "ahead of" if patient.now > at_aws else "behind"
        return bad(
            "clock",
            f"This machine's clock is {skew.total_seconds():.0f} s {ahead} AWS's",
            cause="AWS refuses signatures and usage that are off.",
            fix="Keep the clock by NTP: systemd-timesyncd, chrony, or the platform's own.",
        )
    return good("clock", "Clock: within 30 s of AWS's")


def _account(patient: Patient) -> Iterator[Finding]:
    """The account that publishes is the one whose events come, and whose credentials resolve tokens."""
    assert patient.identity is not None
    last = (
        MarketplaceEvent.objects.filter(channel=MarketplaceEvent.Channel.EVENTBRIDGE).order_by("-pk").first()
    )
    publisher = _account_of(last) if last is not None else None
    if publisher is None:
        yield open_question("account", "Account: no event has come that names the publishing account")
    elif publisher != patient.identity.account:
        yield bad(
            "account",
            f"The credentials are of account {patient.identity.account}, events are of {publisher}",
            cause="AWS resolves tokens for the account that published the listing only.",
            fix="Use credentials of the publishing account: a role there, named by MARKETPLACE_ROLE_ARN.",
        )
    else:
        yield good("account", f"Account: {publisher} publishes the listing")


def _account_of(event: MarketplaceEvent) -> str | None:
    try:
        account = json.loads(event.body).get("account")
    except (ValueError, AttributeError):
        return None
    return account if isinstance(account, str) and account else None


def _permissions(patient: Patient) -> Iterator[Finding]:
    probes = patient.probes
    yield _may("Buyers can be registered", "aws-marketplace:ResolveCustomer", probes.try_resolving)
    yield _may("Usage can be sent", "aws-marketplace:BatchMeterUsage", probes.try_metering)
    product = Product.objects.order_by("pk").first()
    if product is not None:
        code = product.code
        yield _may(
            "Entitlements can be read",
            "aws-marketplace:GetEntitlements",
            lambda: probes.first_entitlements(code),
            besides={"InvalidParameterException"},  # of the product code: the listing's part tells
        )
    if settings.MARKETPLACE["describe_agreements"]:
        yield _may("Agreements can be described", "aws-marketplace:DescribeAgreement", probes.try_describing)
    else:
        yield open_question(
            "aws-marketplace:DescribeAgreement",
            "Trial ends and renewal chains are not asked for: MARKETPLACE_DESCRIBE_AGREEMENTS is off",
        )


def _may(
    text: str, action: str, call: Callable[[], object], *, besides: frozenset[str] | set[str] = frozenset()
) -> Finding:
    try:
        call()
    except MarketplaceError as error:
        if error.code not in besides:
            return refused(action, f"{text} ({action})", error, allow=action)
    return good(action, f"{text} ({action})")


def _region(patient: Patient) -> Iterator[Finding]:
    region = patient.probes.metering_region
    if region not in patient.probes.metering_regions():
        yield bad(
            "region",
            f"There is no metering API in {region!r}",
            fix="Set MARKETPLACE_METERING_REGION to one where there is; us-east-1 if in doubt.",
        )
        return
    others = sorted(
        MeteringRecord.objects.exclude(wire_region=region)
        .order_by()
        .values_list("wire_region", flat=True)
        .distinct()
    )
    if others:
        yield open_question(
            "region",
            f"Usage goes to {region}; earlier hours went, and go, to {', '.join(others)}",
            fix="Nothing, if MARKETPLACE_METERING_REGION was changed on purpose: an hour keeps its Region.",
        )
    else:
        yield good("region", f"Usage goes to {region}; entitlements and events live in us-east-1")
