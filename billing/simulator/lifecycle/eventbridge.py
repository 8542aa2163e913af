"""EventBridge events of license purchases (facts page §4.2; the shapes are the Seller Guide's own samples).

A direct offer gets the Proposer copy of agreement events, a channel partner's sale the Manufacturer copy.
License events and advisories are the manufacturer's always, Ending notices the proposer's.
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any

from billing.simulator.aws.shapes import Json
from billing.simulator.clock import iso
from billing.simulator.records import SELLER_ACCOUNT_ID, Agreement
from billing.simulator.state import State

CREATED = "Purchase Agreement Created"
AMENDED = "Purchase Agreement Amended"
ENDED = "Purchase Agreement Ended"
ENDING = "Purchase Agreement Ending"
ADVISORY_ISSUED = "Purchase Agreement Advisory Issued"
ADVISORY_RESOLVED = "Purchase Agreement Advisory Resolved"
LICENSE_UPDATED = "License Updated"
LICENSE_DEPROVISIONED = "License Deprovisioned"
PAY_AS_YOU_GO_END = "9999-01-01T00:00:00Z"
SELLER_NAME = "Simulated Seller"


def stem(kind: str) -> str:
    """The detail-type without the role it was sent to."""
    return kind.partition(" - ")[0]


def created(state: State, agreement: Agreement, *, due: datetime) -> None:
    facts: Json = {"intent": agreement.intent, **_term(agreement)}
    if agreement.intent != "RENEW":
        _send(
            state,
            agreement,
            CREATED,
            {"agreement": facts, **_resale(agreement), **_offer(agreement)},
            due=due,
        )
        return
    facts["previousAgreementId"] = agreement.previous_agreement_id
    detail = {"agreement": facts, "product": _product(state, agreement), **_offer(agreement)}
    _send(
        state,
        agreement,
        CREATED,
        detail | (_resale(agreement) if agreement.resale_authorization_id else {}),
        due=due,
    )


def amended(state: State, agreement: Agreement, *, due: datetime) -> None:
    """Only the proposer's copy tells of renewal."""
    facts: Json = {"intent": "AMEND", **_term(agreement)}
    detail: Json = {"agreement": facts, **_resale(agreement), **_offer(agreement)}
    if not agreement.resale_authorization_id:
        facts["autoRenewalEnabled"] = agreement.auto_renew
        detail |= {"renewalSummary": _renewal(agreement), "product": _product(state, agreement)}
    _send(state, agreement, AMENDED, detail, due=due)


def ended(state: State, agreement: Agreement, *, due: datetime) -> None:
    """Live, this one carried no offer, unlike AWS's sample (REAL)."""
    _send(state, agreement, ENDED, {"agreement": {"status": agreement.ended_status}}, due=due)


def ending(state: State, agreement: Agreement, *, days: int, due: datetime) -> None:
    facts = {
        "startTime": iso(agreement.starts_at),
        "endTime": _end_time(agreement),
        "status": "ACTIVE",
        "daysBeforeEndTime": days,
        "autoRenewalEnabled": agreement.auto_renew,
    }
    detail = {
        "agreement": facts,
        "renewalSummary": _renewal(agreement),
        "product": _product(state, agreement),
        **_offer(agreement),
    }
    _send(state, agreement, ENDING, detail, due=due)


def advisory(state: State, agreement: Agreement, *, resolved: bool, due: datetime) -> None:
    kind, member = (ADVISORY_RESOLVED, "resolvedAt") if resolved else (ADVISORY_ISSUED, "issuedAt")
    product = state.product(agreement.product_code)
    detail = {"product": {"id": product.product_id}, "advisory": {member: iso(due)}, **_offer(agreement)}
    _send(state, agreement, kind, detail, due=due, role="Manufacturer")


def license_updated(state: State, agreement: Agreement, *, due: datetime) -> None:
    _license(state, agreement, LICENSE_UPDATED, due=due)


def license_deprovisioned(state: State, agreement: Agreement, *, due: datetime) -> None:
    _license(state, agreement, LICENSE_DEPROVISIONED, due=due)


def as_delivered(body: str, *, license_arn_prefix: bool) -> str:
    """The guide's samples print `aws:license-manager:us-east-1:123456789012:l-…`: so does the switch."""
    event = json.loads(body)
    if license_arn_prefix or "license" not in event["detail"]:
        return body
    service, account, license_id = _parts(event["detail"]["license"]["arn"])
    event["detail"]["license"]["arn"] = f"aws:{service}:{event['region']}:{account}:{license_id}"
    return json.dumps(event)


def _parts(arn: str) -> tuple[str, str, str]:
    _, _, service, _, account, _, license_id = arn.split(":")
    return service, account, license_id


def _license(state: State, agreement: Agreement, kind: str, *, due: datetime) -> None:
    product = state.product(agreement.product_code)
    detail = {
        "product": {"id": product.product_id, "code": product.code},
        "license": {"arn": agreement.license_arn},
        **_offer(agreement),
    }
    _send(state, agreement, kind, detail, due=due, role="Manufacturer")


def _term(agreement: Agreement) -> dict[str, str]:
    return {
        "status": "ACTIVE",
        "acceptanceTime": iso(agreement.accepted_at),
        "startTime": iso(agreement.starts_at),
        "endTime": _end_time(agreement),
    }


def _end_time(agreement: Agreement) -> str:
    """Without an end date AWS prints the year 9999 (REAL)."""
    return iso(agreement.ends_at) if agreement.ends_at else PAY_AS_YOU_GO_END


def _offer(agreement: Agreement) -> Json:
    return {"offer": {"id": agreement.offer_id}}


def _resale(agreement: Agreement) -> Json:
    return {"resaleAuthorization": {"id": agreement.resale_authorization_id}}


def _product(state: State, agreement: Agreement) -> Json:
    product = state.product(agreement.product_code)
    return {"id": product.product_id, "title": product.title}


def _renewal(agreement: Agreement) -> Json:
    """No renewal term here has a lockout; only the buyer switches it off."""
    is_off = agreement.ends_at is not None and not agreement.auto_renew
    return {"lockoutStartTime": None, "disabledBy": "ACCEPTOR" if is_off else None}


def _send(
    state: State, agreement: Agreement, kind: str, detail: dict[str, Any], *, due: datetime, role: str = ""
) -> None:
    proposer: Json = {"accountId": agreement.proposer_account_id}
    if kind == ENDING or (kind == CREATED and agreement.intent == "RENEW"):
        proposer["name"] = SELLER_NAME
    role = role or ("Manufacturer" if agreement.resale_authorization_id else "Proposer")
    kind = f"{kind} - {role}"
    body = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": "aws.agreement-marketplace",
        "account": SELLER_ACCOUNT_ID,
        "time": iso(due),
        "region": "us-east-1",
        "resources": [f"arn:aws:aws-marketplace::aws:agreement:{agreement.agreement_id}"],
        "detail": {
            "requestId": str(uuid.uuid4()),
            "catalog": "AWSMarketplace",
            **detail,
            "agreement": {"id": agreement.agreement_id, **detail.get("agreement", {})},
            "acceptor": {"accountId": agreement.aws_account_id},
            "proposer": proposer,
        },
    }
    state.schedule(agreement.agreement_id, kind, json.dumps(body), due=due)
