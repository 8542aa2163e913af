"""GetEntitlements (facts page §1.3).

Filters OR within a key and AND across keys; a page holds at most 25; nothing found is a bare `{}`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain, islice

from billing.simulator.aws.bounds import GET_ENTITLEMENTS
from billing.simulator.aws.call import Call
from billing.simulator.aws.shapes import Json, parse
from billing.simulator.catalog import Product
from billing.simulator.clock import epoch
from billing.simulator.errors import AwsError
from billing.simulator.records import Agreement
from billing.simulator.state import State

LARGEST_PAGE = 25
_FILTERED_MEMBER = {
    "CUSTOMER_IDENTIFIER": "CustomerIdentifier",
    "CUSTOMER_AWS_ACCOUNT_ID": "CustomerAWSAccountId",
    "DIMENSION": "Dimension",
    "LICENSE_ARN": "LicenseArn",
}
_PAGE_TOKEN = re.compile(r"page:(?P<number>[0-9]{1,9}):(?P<row>[0-9]{1,9}):(?P<query>[0-9a-f]{16})")

Filters = dict[str, list[str]]
Position = tuple[int, int]
"""Which of the agreements a query looks at, and which entitlement of it."""


def get_entitlements(state: State, body: Json, call: Call) -> Json:
    request = parse(GET_ENTITLEMENTS, body)
    filters: Filters = request.get("Filter", {})
    if "CUSTOMER_IDENTIFIER" in filters and "CUSTOMER_AWS_ACCOUNT_ID" in filters:
        raise AwsError(
            "InvalidParameterException",
            "CUSTOMER_IDENTIFIER and CUSTOMER_AWS_ACCOUNT_ID are mutually exclusive.",
        )
    query = _digest(request["ProductCode"], filters)
    start = _read_page_token(request["NextToken"], query) if "NextToken" in request else (0, 0)
    if call.empty_page:
        return {"Entitlements": [], "NextToken": _page_token(start, query)}
    size = request.get("MaxResults", LARGEST_PAGE)
    with state.lock:
        if request["ProductCode"] not in state.products:
            raise AwsError("InvalidParameterException", "The product code is not one of yours.")
        # One more than the page holds, to know whether there is another.
        found = list(islice(_entitlements(state, request["ProductCode"], filters, start), size + 1))
    if not found:
        return {}
    answer: Json = {"Entitlements": [entitlement for _, entitlement in found[:size]]}
    if len(found) > size:
        answer["NextToken"] = _page_token(found[size][0], query)
    return answer


def _entitlements(
    state: State, product_code: str, filters: Filters, start: Position
) -> Iterator[tuple[Position, Json]]:
    """What matches from ``start`` on, and where it stands: a walk of all pages reads every agreement once."""
    now = state.clock.now()
    product = state.product(product_code)
    first, first_row = start
    agreements = islice(_candidates(state, product_code, filters), first, None)
    for number, agreement in enumerate(agreements, first):
        if (
            agreement.product_code != product_code
            or agreement.ends_at is None
            or not agreement.is_entitled(now)
        ):
            continue
        skipped = first_row if number == first else 0
        for row, entitlement in enumerate(_rows(product, agreement, now)):
            if row >= skipped and all(
                entitlement.get(_FILTERED_MEMBER[key]) in wanted for key, wanted in filters.items()
            ):
                yield (number, row), entitlement


def _candidates(state: State, product_code: str, filters: Filters) -> Iterable[Agreement]:
    """The agreements that may match, in an order that stays: whom a filter names is looked up."""
    if "LICENSE_ARN" in filters:
        found = (state.agreement_of_license(arn) for arn in dict.fromkeys(filters["LICENSE_ARN"]))
        return [agreement for agreement in found if agreement is not None]
    if "CUSTOMER_IDENTIFIER" in filters:
        known = (state.account_of_identifier(identifier) for identifier in filters["CUSTOMER_IDENTIFIER"])
        accounts = [account for account in known if account is not None]
    elif "CUSTOMER_AWS_ACCOUNT_ID" in filters:
        accounts = filters["CUSTOMER_AWS_ACCOUNT_ID"]
    else:
        return state.agreements.data.values()
    return chain.from_iterable(
        state.agreements_of(product_code, account) for account in dict.fromkeys(accounts)
    )


def _rows(product: Product, agreement: Agreement, now: datetime) -> Iterator[Json]:
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
            "ProductCode": product.code,
            "Dimension": key,
            "CustomerAWSAccountId": agreement.aws_account_id,
            "Value": {dimension.value_member: value},
            "ExpirationDate": epoch(agreement.ends_at or now),
            **identity,
        }


def _digest(product_code: str, filters: Filters) -> str:
    """A page token goes on with the query it was given for, not with another."""
    return hashlib.sha256(json.dumps([product_code, filters], sort_keys=True).encode()).hexdigest()[:16]


def _page_token(position: Position, query: str) -> str:
    number, row = position
    return base64.urlsafe_b64encode(f"page:{number}:{row}:{query}".encode()).decode()


def _read_page_token(token: str, query: str) -> Position:
    try:
        read = _PAGE_TOKEN.fullmatch(base64.urlsafe_b64decode(token).decode())
    except ValueError:
        read = None
    if read is None or read["query"] != query:
        raise AwsError(
            "InvalidParameterException", "The NextToken is not one this service gave out for this."
        )
    return int(read["number"]), int(read["row"])
