"""ResolveCustomer (facts page §1.2 and §2): for four simulated hours a token resolves to its purchase."""

from __future__ import annotations

from billing.simulator.bounds import RESOLVE_CUSTOMER
from billing.simulator.call import Call
from billing.simulator.errors import AwsError
from billing.simulator.shapes import Json, parse
from billing.simulator.state import State


def resolve_customer(state: State, body: Json, call: Call) -> Json:
    request = parse(RESOLVE_CUSTOMER, body)
    with state.lock:
        token = state.tokens.get(request["RegistrationToken"])
        if token is None:
            raise AwsError("InvalidTokenException", "Registration token is invalid.")
        if token.expires_at <= state.clock.now():
            raise AwsError("ExpiredTokenException", "The submitted registration token has expired.")
        agreement = state.agreements[token.agreement_id]
        answer = {"ProductCode": agreement.product_code, "CustomerAWSAccountId": agreement.aws_account_id}
        if agreement.identity == "legacy":
            return {**answer, "CustomerIdentifier": agreement.customer_identifier}
        return {
            **answer,
            "LicenseArn": agreement.license_arn,
            "Metadata": {"AgreementId": agreement.agreement_id},
        }
