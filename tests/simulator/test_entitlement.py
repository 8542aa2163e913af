from __future__ import annotations

from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from tests.simulator.conftest import NOON, code_of


def rows(entitlements, code="reports-flex", **request):
    return entitlements.get_entitlements(ProductCode=code, **request).get("Entitlements", [])


def values(entitlements, **request):
    return {row["Dimension"]: row["Value"] for row in rows(entitlements, **request)}


def refusal(entitlements, **request):
    with pytest.raises(ClientError) as error:
        entitlements.get_entitlements(**{"ProductCode": "reports-flex", **request})
    return code_of(error)


def test_each_value_type_has_its_member(entitlements, license_):
    assert values(entitlements) == {
        "included_pages": {"IntegerValue": 100},
        "sso": {"BooleanValue": True},
        "ratio": {"DoubleValue": 1.0},
        "tier": {"StringValue": "gold"},
    }


def test_a_license_row_names_license_and_account(entitlements, license_):
    row = rows(entitlements)[0]
    assert row == {
        "ProductCode": "reports-flex",
        "Dimension": "included_pages",
        "CustomerAWSAccountId": "123456789012",
        "LicenseArn": license_.license_arn,
        "Value": {"IntegerValue": 100},
        "ExpirationDate": NOON + timedelta(days=365),
    }


def test_a_legacy_row_names_the_customer_identifier(entitlements, legacy):
    (row,) = rows(entitlements, "reports-legacy")
    assert row["CustomerIdentifier"] == legacy.customer_identifier
    assert "LicenseArn" not in row


def test_nothing_is_a_bare_object(shop, entitlements):
    answer = entitlements.get_entitlements(ProductCode="reports-flex")
    assert set(answer) == {"ResponseMetadata"}


def test_pay_as_you_go_has_no_entitlements(shop, entitlements):
    shop.control.subscribe("reports-payg")
    shop.control.advance(10)
    assert rows(entitlements, "reports-payg") == []


def test_entitlements_appear_with_activation_and_go_with_deprovisioning(shop, entitlements):
    purchase = shop.control.subscribe("reports-flex")
    assert rows(entitlements) == []
    shop.control.advance(5)
    assert len(rows(entitlements)) == 4
    shop.control.cancel(purchase.agreement_id)
    assert len(rows(entitlements)) == 4
    shop.control.advance(30)
    assert rows(entitlements) == []


def test_a_contract_expires_after_its_term(shop, entitlements, license_):
    shop.control.advance(timedelta(days=366))
    assert rows(entitlements) == []


def test_what_was_not_bought_has_no_row(shop, entitlements):
    shop.control.subscribe("reports-flex", quantities={"included_pages": 0, "sso": False, "tier": ""})
    shop.control.advance(10)
    assert values(entitlements) == {"ratio": {"DoubleValue": 1.0}}


def test_an_upgrade_shows_when_its_event_falls_due(shop, entitlements, license_):
    shop.control.amend(license_.agreement_id, {"included_pages": 250})
    assert values(entitlements)["included_pages"] == {"IntegerValue": 100}
    shop.control.advance(5)
    assert values(entitlements)["included_pages"] == {"IntegerValue": 250}


def test_values_of_one_filter_are_alternatives_and_filters_narrow(shop, entitlements, license_):
    other = shop.control.subscribe("reports-flex", aws_account_id="999999999999")
    shop.control.advance(10)

    def found(**filters):
        return [(row["LicenseArn"], row["Dimension"]) for row in rows(entitlements, Filter=filters)]

    both = [license_.license_arn, other.license_arn]
    assert len(found(LICENSE_ARN=both)) == 8
    assert found(LICENSE_ARN=both, DIMENSION=["sso"]) == [(arn, "sso") for arn in both]
    assert found(LICENSE_ARN=[other.license_arn], DIMENSION=["sso", "tier"]) == [
        (other.license_arn, "sso"),
        (other.license_arn, "tier"),
    ]
    assert len(found(CUSTOMER_AWS_ACCOUNT_ID=["123456789012"])) == 4
    assert found(CUSTOMER_AWS_ACCOUNT_ID=["123456789012"], LICENSE_ARN=[other.license_arn]) == []


def test_a_legacy_customer_is_found_by_identifier(shop, entitlements, legacy):
    filters = {"CUSTOMER_IDENTIFIER": [legacy.customer_identifier]}
    assert len(rows(entitlements, "reports-legacy", Filter=filters)) == 1


def test_both_customer_filters_are_refused(entitlements, license_):
    both = {"CUSTOMER_IDENTIFIER": ["a"], "CUSTOMER_AWS_ACCOUNT_ID": ["123456789012"]}
    assert refusal(entitlements, Filter=both) == "InvalidParameterException"


def test_an_unknown_product_and_a_foreign_page_token_are_refused(entitlements, license_):
    assert refusal(entitlements, ProductCode="nothing") == "InvalidParameterException"
    for token in ("nonsense", "cGFnZTp4", "Ym9vazox", "é"):
        assert refusal(entitlements, NextToken=token) == "InvalidParameterException"


@pytest.mark.parametrize(
    "request_",
    [
        {"MaxResults": 26},
        {"MaxResults": 0},
        {"ProductCode": None},
        {"NextToken": " "},
        {"ProductCode": "p" * 256},
        {"Filter": {"NAME": ["a"]}},
        {"Filter": {"DIMENSION": []}},
    ],
    ids=str,
)
def test_what_the_model_forbids_is_refused(aws, license_, request_):
    careless = aws("marketplace-entitlement", careless=True)
    assert refusal(careless, **request_) == "ValidationException"


def test_pages_hold_25_and_lead_to_all(shop, entitlements):
    for number in range(7):
        shop.control.subscribe("reports-flex", aws_account_id=str(100000000000 + number))
    shop.control.advance(10)
    first = entitlements.get_entitlements(ProductCode="reports-flex")
    assert len(first["Entitlements"]) == 25
    second = entitlements.get_entitlements(ProductCode="reports-flex", NextToken=first["NextToken"])
    assert len(second["Entitlements"]) == 3
    assert "NextToken" not in second
    small = entitlements.get_entitlements(ProductCode="reports-flex", MaxResults=2)
    assert len(small["Entitlements"]) == 2


def test_an_empty_answer_can_be_ordered(shop, entitlements, license_):
    shop.control.fault("GetEntitlements", "empty")
    assert rows(entitlements) == []
    assert len(rows(entitlements)) == 4


def test_a_page_token_is_of_no_use_to_another_query(shop, entitlements, license_):
    first = entitlements.get_entitlements(ProductCode="reports-flex", MaxResults=1)
    other = {"Filter": {"DIMENSION": ["sso"]}, "NextToken": first["NextToken"]}
    assert refusal(entitlements, **other) == "InvalidParameterException"
    assert len(rows(entitlements, NextToken=first["NextToken"], MaxResults=25)) == 3


def test_a_walk_in_small_pages_meets_each_row_once(shop, entitlements):
    for number in range(5):
        shop.control.subscribe("reports-flex", aws_account_id=str(100000000000 + number))
    shop.control.subscribe("reports-payg")
    shop.control.advance(10)
    for filters in ({}, {"CUSTOMER_AWS_ACCOUNT_ID": ["100000000004", "100000000002", "100000000004"]}):
        query = {"ProductCode": "reports-flex", "MaxResults": 3, "Filter": filters}
        seen, token = [], {}
        while True:
            page = entitlements.get_entitlements(**query, **token)
            seen += [(row["LicenseArn"], row["Dimension"]) for row in page["Entitlements"]]
            if "NextToken" not in page:
                break
            token = {"NextToken": page["NextToken"]}
        assert len(seen) == len(set(seen)) == (8 if filters else 20)


def test_an_empty_page_has_a_token_that_goes_on_where_the_call_stood(shop, entitlements, license_):
    first = entitlements.get_entitlements(ProductCode="reports-flex", MaxResults=3)
    shop.control.fault("GetEntitlements", "empty_page")
    empty = entitlements.get_entitlements(ProductCode="reports-flex", NextToken=first["NextToken"])
    assert empty["Entitlements"] == []
    last = entitlements.get_entitlements(ProductCode="reports-flex", NextToken=empty["NextToken"])
    dimensions = [row["Dimension"] for page in (first, last) for row in page["Entitlements"]]
    assert dimensions == ["included_pages", "sso", "ratio", "tier"]


def test_unknown_licenses_and_identifiers_find_nothing(shop, entitlements, license_):
    for key in ("LICENSE_ARN", "CUSTOMER_IDENTIFIER", "CUSTOMER_AWS_ACCOUNT_ID"):
        assert rows(entitlements, Filter={key: ["nobody"]}) == []


def test_a_suspended_buyer_keeps_its_entitlements(shop, entitlements, license_):
    shop.control.suspend(license_.agreement_id)
    assert len(rows(entitlements)) == 4


def test_both_licenses_of_a_renewal_show_while_both_live(shop, entitlements, license_):
    renewed = shop.control.renew(license_.agreement_id)
    shop.control.advance(10)
    assert {row["LicenseArn"] for row in rows(entitlements)} == {license_.license_arn, renewed.license_arn}
    shop.control.advance(timedelta(minutes=5))
    assert {row["LicenseArn"] for row in rows(entitlements)} == {renewed.license_arn}
