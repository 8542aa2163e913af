"""ResolveCustomer (facts page §1.2 and §2): for four simulated hours a token resolves to its purchase."""

from __future__ import annotations

from dataclasses import replace

from billing.simulator.aws.bounds import RESOLVE_CUSTOMER
from billing.simulator.aws.call import Call
from billing.simulator.aws.shapes import Json, parse
from billing.simulator.errors import AwsError
from billing.simulator.state import State


def resolve_customer(state: State, body: Json, call: Call) -> Json:
    request = parse(RESOLVE_CUSTOMER, body)
    with state.lock:
        if call.access_key in state.switches.foreign_access_keys:
            raise AwsError(
                state.switches.foreign_account_code, "The token is for a product of another seller account."
            )
        token = state.tokens.get(request["RegistrationToken"])
        if token is None:
            raise AwsError("InvalidTokenException", "Registration token is invalid.")
        spent = token.used and not state.switches.token_reuse
        if spent or token.expires_at <= state.clock.now():
            raise AwsError("ExpiredTokenException", "The submitted registration token has expired.")
        if not token.used:
            state.tokens[token.token] = replace(token, used=True)
        agreement = state.agreements[token.agreement_id]
        answer = {"ProductCode": agreement.product_code, "CustomerAWSAccountId": agreement.aws_account_id}
        if agreement.identity == "legacy":
            return {**answer, "CustomerIdentifier": agreement.customer_identifier}
        return {
            **answer,
            "LicenseArn": agreement.license_arn,
            "Metadata": {"AgreementId": agreement.agreement_id},
        }
