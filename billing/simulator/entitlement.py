"""GetEntitlements (facts page §1.3).

Filters OR within a key and AND across keys; a page holds at most 25; nothing found is a bare `{}`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from billing.simulator.bounds import GET_ENTITLEMENTS
from billing.simulator.call import Call
from billing.simulator.clock import epoch
from billing.simulator.errors import AwsError
from billing.simulator.shapes import Json, parse
from billing.simulator.state import State

LARGEST_PAGE = 25
_FILTERED_MEMBER = {
    "CUSTOMER_IDENTIFIER": "CustomerIdentifier",
    "CUSTOMER_AWS_ACCOUNT_ID": "CustomerAWSAccountId",
    "DIMENSION": "Dimension",
    "LICENSE_ARN": "LicenseArn",
}


def get_entitlements(state: State, body: Json, call: Call) -> Json:
    request = parse(GET_ENTITLEMENTS, body)
    filters: dict[str, list[str]] = request.get("Filter", {})
    if "CUSTOMER_IDENTIFIER" in filters and "CUSTOMER_AWS_ACCOUNT_ID" in filters:
        raise AwsError(
            "InvalidParameterException",
            "CUSTOMER_IDENTIFIER and CUSTOMER_AWS_ACCOUNT_ID are mutually exclusive.",
        )
    start = _read_page_token(request["NextToken"]) if "NextToken" in request else 0
    size = request.get("MaxResults", LARGEST_PAGE)
    with state.lock:
        if request["ProductCode"] not in state.products:
            raise AwsError("InvalidParameterException", "The product code is not one of yours.")
        found = [
            entitlement
            for entitlement in _entitlements(state, request["ProductCode"])
            if all(entitlement.get(_FILTERED_MEMBER[key]) in wanted for key, wanted in filters.items())
        ]
    page = found[start : start + size]
    if not page:
        return {}
    answer: Json = {"Entitlements": page}
    if start + size < len(found):
        answer["NextToken"] = _page_token(start + size)
    return answer


def _entitlements(state: State, product_code: str) -> Iterator[Json]:
    now = state.clock.now()
    product = state.product(product_code)
    for agreement in state.agreements.values():
        if (
            agreement.product_code != product_code
            or agreement.ends_at is None
            or not agreement.is_entitled(now)
        ):
            continue
        identity = (
            {"LicenseArn": agreement.license_arn}
            if agreement.license_arn
            else {"CustomerIdentifier": agreement.customer_identifier}
        )
        for key, value in agreement.quantities_at(now).items():
            # What was bought nought times was not bought.
            if (dimension := product.dimensions.get(key)) is None or value in (0, ""):
                continue
            yield {
                "ProductCode": product_code,
                "Dimension": key,
                "CustomerAWSAccountId": agreement.aws_account_id,
                "Value": {dimension.value_member: value},
                "ExpirationDate": epoch(agreement.ends_at),
                **identity,
            }


def _page_token(start: int) -> str:
    return base64.urlsafe_b64encode(f"page:{start}".encode()).decode()


def _read_page_token(token: str) -> int:
    try:
        kind, _, start = base64.urlsafe_b64decode(token).decode().partition(":")
        if kind == "page":
            return max(0, int(start))
    except ValueError:
        pass
    raise AwsError("InvalidParameterException", "The NextToken is not one this service gave out.")
