from __future__ import annotations

from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from tests.simulator.conftest import NOON, code_of


@pytest.fixture
def describe(aws):
    client = aws("marketplace-agreement")

    def _describe(agreement_id):
        answer = client.describe_agreement(agreementId=agreement_id)
        del answer["ResponseMetadata"]
        return answer

    return _describe


def test_a_contract_is_described(describe, license_):
    assert describe(license_.agreement_id) == {
        "agreementId": license_.agreement_id,
        "initialAgreementId": license_.agreement_id,
        "agreementType": "PurchaseAgreement",
        "acceptor": {"accountId": "123456789012"},
        "proposer": {"accountId": "111111111111"},
        "acceptanceTime": NOON,
        "startTime": NOON,
        "endTime": NOON + timedelta(days=365),
        "endTimeBehavior": {
            "type": "EXPIRE",
            "reasonCode": "ACCEPTOR_RENEW_OPTED_OUT",
            "renewalSummary": {"offerId": describe(license_.agreement_id)["proposalSummary"]["offerId"]},
        },
        "status": "ACTIVE",
        "estimatedCharges": {"currencyCode": "USD", "agreementValue": "200.0"},
        "proposalSummary": {
            "offerId": describe(license_.agreement_id)["proposalSummary"]["offerId"],
            "resources": [{"id": "prod-flex00000001", "type": "SaaSProduct"}],
        },
    }


def test_pay_as_you_go_has_no_end_and_a_trial_says_when_it_ends(shop, describe):
    purchase = shop.control.subscribe("reports-payg", free_trial=True)
    answer = describe(purchase.agreement_id)
    assert "endTime" not in answer
    assert answer["freeTrialSummary"] == {"trialEndTime": NOON + timedelta(days=30)}


def test_a_cancelled_agreement_says_so_and_behaves_no_more(shop, describe, license_):
    shop.control.cancel(license_.agreement_id)
    answer = describe(license_.agreement_id)
    assert answer["status"] == "CANCELLED"
    assert "endTimeBehavior" not in answer


def test_a_contract_that_ran_out_is_expired(shop, describe, license_):
    shop.control.advance(timedelta(days=365))
    assert describe(license_.agreement_id)["status"] == "EXPIRED"


def test_an_unknown_agreement_is_a_404(aws, license_):
    with pytest.raises(ClientError) as error:
        aws("marketplace-agreement").describe_agreement(agreementId="agmt-nothing")
    assert code_of(error) == "ResourceNotFoundException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert error.value.response["resourceType"] == "Agreement"


def test_throttling_is_a_429_here(shop, aws, license_):
    shop.control.fault("DescribeAgreement", "throttle")
    with pytest.raises(ClientError) as error:
        aws("marketplace-agreement").describe_agreement(agreementId=license_.agreement_id)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429


def test_an_id_the_model_forbids_is_refused(aws, license_):
    with pytest.raises(ClientError) as error:
        aws("marketplace-agreement").describe_agreement(agreementId="agmt 1")
    assert code_of(error) == "ValidationException"


def behavior(describe, purchase):
    return describe(purchase.agreement_id)["endTimeBehavior"]


def test_the_end_of_a_contract_is_told_before_it_comes(shop, describe):
    renewing = shop.control.subscribe("reports-flex", auto_renew=True)
    offer = describe(renewing.agreement_id)["proposalSummary"]["offerId"]
    assert behavior(describe, renewing) == {"type": "RENEW", "renewalSummary": {"offerId": offer}}
    private = shop.control.subscribe("reports-flex", private_offer=True, auto_renew=True)
    assert behavior(describe, private) == {"type": "REPLACE"}
    trial = shop.control.subscribe("reports-flex", free_trial=7)
    assert behavior(describe, trial) == {"type": "EXPIRE", "reasonCode": "NO_RENEWAL_TERM"}
    assert describe(trial.agreement_id)["endTime"] == NOON + timedelta(days=7)
    assert describe(trial.agreement_id)["freeTrialSummary"] == {"trialEndTime": NOON + timedelta(days=7)}


def test_a_chain_of_renewals_keeps_its_first_agreement(shop, describe, license_):
    renewed = shop.control.renew(license_.agreement_id)
    replaced = shop.control.replace(renewed.agreement_id, private_offer=True)
    chain = [describe(one.agreement_id) for one in (license_, renewed, replaced)]
    assert {answer["initialAgreementId"] for answer in chain} == {license_.agreement_id}
    assert [answer["status"] for answer in chain] == ["RENEWED", "REPLACED", "ACTIVE"]


def test_a_channel_partner_is_the_proposer(shop, describe):
    sold = shop.control.subscribe("reports-flex", channel_partner="333344445555")
    assert describe(sold.agreement_id)["proposer"] == {"accountId": "333344445555"}
