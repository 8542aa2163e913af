from __future__ import annotations

from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from tests.simulator.conftest import NOON, code_of


def refusal(metering, token):
    with pytest.raises(ClientError) as error:
        metering.resolve_customer(RegistrationToken=token)
    return code_of(error)


def resolve(metering, token):
    answer = metering.resolve_customer(RegistrationToken=token)
    del answer["ResponseMetadata"]
    return answer


def test_a_license_product_answers_its_license_and_no_customer_identifier(metering, license_):
    assert resolve(metering, license_.token) == {
        "ProductCode": "reports-flex",
        "CustomerAWSAccountId": "123456789012",
        "LicenseArn": license_.license_arn,
        "Metadata": {"AgreementId": license_.agreement_id},
    }


def test_a_legacy_product_answers_a_customer_identifier_and_no_license(metering, legacy):
    assert resolve(metering, legacy.token) == {
        "ProductCode": "reports-legacy",
        "CustomerAWSAccountId": "222233334444",
        "CustomerIdentifier": legacy.customer_identifier,
    }


def test_a_token_resolves_again_within_four_hours(shop, metering, license_):
    first = resolve(metering, license_.token)
    shop.control.freeze(NOON + timedelta(hours=4, microseconds=-1))
    assert resolve(metering, license_.token) == first


def test_a_token_expires_after_four_hours_and_a_fresh_one_resolves_to_the_same(shop, metering, license_):
    first = resolve(metering, license_.token)
    shop.control.freeze(NOON + timedelta(hours=4))
    assert refusal(metering, license_.token) == "ExpiredTokenException"
    assert resolve(metering, shop.control.token(license_.agreement_id)) == first


@pytest.mark.parametrize("token", ["nonsense", " ", "é"])
def test_an_unknown_token_is_invalid(metering, license_, token):
    assert refusal(metering, token) == "InvalidTokenException"


def test_the_same_account_buys_twice_and_gets_two_licenses(shop, metering, license_):
    second = shop.control.subscribe("reports-flex", aws_account_id=license_.aws_account_id)
    assert resolve(metering, second.token)["LicenseArn"] != license_.license_arn


def test_tokens_are_not_in_the_request_log_or_the_state(shop, metering, license_):
    resolve(metering, license_.token)
    entries = shop.control.requests("ResolveCustomer")
    assert len(entries) == 1
    assert license_.token not in str(entries)
    assert "masked" in entries[0]["request"]["RegistrationToken"]
    assert license_.token not in str(shop.control.state())


def test_a_purchase_may_take_the_other_identity_of_its_product(shop, metering):
    purchase = shop.control.subscribe("reports-flex", identity="legacy")
    assert purchase.license_arn is None
    assert "CustomerIdentifier" in resolve(metering, purchase.token)


def test_a_token_resolves_once_where_reuse_is_switched_off(shop, metering, license_):
    shop.control.switch(token_reuse=False)
    first = resolve(metering, license_.token)
    assert refusal(metering, license_.token) == "ExpiredTokenException"
    assert resolve(metering, shop.control.token(license_.agreement_id)) == first


def test_a_token_used_before_the_switch_counts_as_used(shop, metering, license_):
    resolve(metering, license_.token)
    shop.control.switch(token_reuse=False)
    assert refusal(metering, license_.token) == "ExpiredTokenException"


@pytest.mark.parametrize("code", ["InvalidTokenException", "AccessDeniedException"])
def test_another_account_than_the_publishing_one_cannot_resolve(shop, metering, license_, code):
    shop.control.switch(foreign_access_keys=["AKIDOFANOTHER", "test"], foreign_account_code=code)
    assert refusal(metering, license_.token) == code
    shop.control.switch(foreign_access_keys=["AKIDOFANOTHER"], token_reuse=False)
    assert "ProductCode" in resolve(metering, license_.token)
