"""DescribeAgreement of the Agreement service (facts page §1.5), in its model's shape."""

from __future__ import annotations

from decimal import Decimal

from billing.simulator.aws.bounds import DESCRIBE_AGREEMENT
from billing.simulator.aws.call import Call
from billing.simulator.aws.shapes import Json, parse
from billing.simulator.clock import epoch
from billing.simulator.errors import AwsError
from billing.simulator.lifecycle import endings
from billing.simulator.records import Agreement
from billing.simulator.state import State


def describe_agreement(state: State, body: Json, call: Call) -> Json:
    request = parse(DESCRIBE_AGREEMENT, body)
    with state.lock:
        agreement = state.agreements.get(request["agreementId"])
        if agreement is None:
            raise AwsError(
                "ResourceNotFoundException",
                "The agreement was not found.",
                status=404,
                resourceId=request["agreementId"],
                resourceType="Agreement",
            )
        return _describe(state, agreement)


def _describe(state: State, agreement: Agreement) -> Json:
    status = agreement.status(state.clock.now())
    product = state.product(agreement.product_code)
    answer: Json = {
        "agreementId": agreement.agreement_id,
        "initialAgreementId": agreement.initial_agreement_id,
        "agreementType": "PurchaseAgreement",
        "acceptor": {"accountId": agreement.aws_account_id},
        "proposer": {"accountId": agreement.proposer_account_id},
        "acceptanceTime": epoch(agreement.accepted_at),
        "startTime": epoch(agreement.starts_at),
        "status": status,
        "estimatedCharges": {"currencyCode": "USD", "agreementValue": _value(state, agreement)},
        "proposalSummary": {
            "offerId": agreement.offer_id,
            "resources": [{"id": product.product_id, "type": "SaaSProduct"}],
        },
    }
    if agreement.ends_at is not None:
        answer["endTime"] = epoch(agreement.ends_at)
        if status == "ACTIVE":
            answer["endTimeBehavior"] = _end_time_behavior(agreement)
    if agreement.trial_ends_at is not None:
        answer["freeTrialSummary"] = {"trialEndTime": epoch(agreement.trial_ends_at)}
    return answer


def _end_time_behavior(agreement: Agreement) -> Json:
    """As the model's EndTimeBehavior explains it: renewal is the buyer's choice, a trial has none."""
    if endings.is_trial_only(agreement):
        return {"type": "EXPIRE", "reasonCode": "NO_RENEWAL_TERM"}
    if not agreement.auto_renew:
        offer = {"offerId": agreement.offer_id}
        return {"type": "EXPIRE", "reasonCode": "ACCEPTOR_RENEW_OPTED_OUT", "renewalSummary": offer}
    if endings.renewal_intent(agreement) == "REPLACE":
        return {"type": "REPLACE"}
    return {"type": "RENEW", "renewalSummary": {"offerId": agreement.offer_id}}


def _value(state: State, agreement: Agreement) -> str:
    dimensions = state.product(agreement.product_code).dimensions
    bought = agreement.quantities_at(state.clock.now())
    return format(
        sum(
            (
                dimensions[key].price * Decimal(str(value))
                for key, value in bought.items()
                if key in dimensions and isinstance(value, int | float) and not isinstance(value, bool)
            ),
            Decimal(0),
        ),
        "f",
    )
