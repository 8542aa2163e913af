"""One row per AWS account and purchase, whoever tells of it first."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, transaction

from billing import customers
from billing.models import Agreement, MarketplaceCustomer
from tests.billing.arriving import at_once

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ARN = "arn:aws:license-manager::294406891311:license:l-0123456789abcdef"


def customer(account=None, identifier=None) -> MarketplaceCustomer:
    return customers.get_customer(aws_account_id=account, customer_identifier=identifier)


def agreement(product, buyer, arn=None, agreement_id=None, **more) -> Agreement:
    with transaction.atomic():
        return customers.get_agreement(
            product=product,
            customer=buyer,
            license_arn=arn,
            agreement_id=agreement_id,
            now=NOW,
            by="aws",
            **more,
        )


@pytest.mark.parametrize(
    "arn",
    [ARN, "aws:license-manager::294406891311:license:l-0123456789abcdef", "l-0123456789abcdef", f" {ARN}\n"],
)
def test_a_license_is_the_same_with_and_without_its_prefix(arn):
    assert customers.license_id(arn) == "l-0123456789abcdef"


@pytest.mark.parametrize("arn", ["", "arn:aws:license-manager::1:license:", "xl-1", "l-", "l-1/2", "l-1 2"])
def test_an_arn_without_a_license_id_is_refused(arn):
    with pytest.raises(ValueError, match="l-…"):
        customers.license_id(arn)


# --- Customers ---------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_customer_is_found_by_either_id_and_learns_the_other():
    by_identifier = customer(identifier="legacy-1")
    both = customer(account="123456789012", identifier="legacy-1")
    by_account = customer(account="123456789012")

    assert by_identifier == both == by_account
    assert (both.aws_account_id, both.customer_identifier) == ("123456789012", "legacy-1")
    assert MarketplaceCustomer.objects.count() == 1


@pytest.mark.django_db
def test_an_unknown_id_does_not_find_the_rows_that_have_none():
    customer(account="123456789012")

    assert customer(identifier="legacy-1").aws_account_id is None
    assert customer(account="999999999999").customer_identifier is None
    assert MarketplaceCustomer.objects.count() == 3


@pytest.mark.django_db
def test_an_id_once_known_does_not_change():
    customer(account="123456789012", identifier="first")

    assert customer(account="123456789012", identifier="second").customer_identifier == "first"


@pytest.mark.django_db
def test_where_each_id_has_a_row_the_legacy_one_is_meant(caplog):
    by_account, by_identifier = customer(account="123456789012"), customer(identifier="legacy-1")

    assert customer(account="123456789012", identifier="legacy-1") == by_identifier

    by_identifier.refresh_from_db()
    assert by_identifier.aws_account_id is None
    assert customer(account="123456789012") == by_account
    assert "another row has it" in caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize("ids", [{}, {"account": "not digits"}])
def test_an_impossible_customer_is_an_error_not_an_endless_search(ids):
    with pytest.raises(IntegrityError):
        customer(**ids)


@pytest.mark.django_db(transaction=True)
def test_a_customer_made_twice_at_once_is_one_row():
    first, second = at_once(*[lambda: customer(account="123456789012")] * 2)

    assert first.pk == second.pk


# --- Agreements --------------------------------------------------------------------------------------------


def test_a_license_names_its_purchase_and_what_was_unknown_is_learned(catalog):
    buyer = customer(account="123456789012")
    first = agreement(catalog["reports-flex"], buyer, arn=ARN.removeprefix("arn:"))
    assert (first.license_arn, first.license_id, first.agreement_id) == (None, "l-0123456789abcdef", None)

    again = agreement(catalog["reports-flex"], buyer, arn=ARN, agreement_id="agmt-1", offer_id="offer-1")

    assert again.pk == first.pk
    again.refresh_from_db()
    assert (again.license_arn, again.agreement_id, again.offer_id) == (ARN, "agmt-1", "offer-1")


def test_what_is_known_of_a_purchase_does_not_change(catalog):
    buyer = customer(account="123456789012")
    agreement(catalog["reports-flex"], buyer, arn=ARN, agreement_id="agmt-1")

    again = agreement(catalog["reports-flex"], buyer, arn=ARN, agreement_id="agmt-2")

    assert again.agreement_id == "agmt-1"


def test_an_agreement_id_is_not_taken_from_another_purchase(catalog, caplog):
    buyer = customer(account="123456789012")
    agreement(catalog["reports-flex"], buyer, arn=ARN, agreement_id="agmt-1")
    other = agreement(catalog["reports-flex"], buyer, arn=ARN + "f")

    assert agreement(catalog["reports-flex"], buyer, arn=ARN + "f", agreement_id="agmt-1") == other

    other.refresh_from_db()
    assert other.agreement_id is None
    assert "another row has it" in caplog.text


def test_a_new_purchase_under_a_known_agreement_id_is_an_error(catalog):
    buyer = customer(account="123456789012")
    agreement(catalog["reports-flex"], buyer, arn=ARN, agreement_id="agmt-1")

    with pytest.raises(IntegrityError):
        agreement(catalog["reports-flex"], buyer, arn=ARN + "f", agreement_id="agmt-1")


@pytest.mark.parametrize("over", ["ended", "failed"])
def test_a_legacy_product_bought_again_is_a_new_purchase(catalog, over):
    buyer = customer(identifier="legacy-1")
    first = agreement(catalog["reports-classic"], buyer)
    assert agreement(catalog["reports-classic"], buyer) == first

    Agreement.objects.update(status=over, activated_at=NOW)

    assert agreement(catalog["reports-classic"], buyer) != first


def test_a_license_that_arrives_for_a_legacy_purchase_adopts_it(catalog):
    buyer = customer(account="123456789012", identifier="legacy-1")
    legacy = agreement(catalog["reports-classic"], buyer)

    adopted = agreement(catalog["reports-classic"], buyer, arn=ARN, agreement_id="agmt-1")

    assert adopted.pk == legacy.pk
    adopted.refresh_from_db()
    assert (adopted.license_arn, adopted.license_id, adopted.agreement_id) == (
        ARN,
        "l-0123456789abcdef",
        "agmt-1",
    )
    assert adopted.identity == "legacy", "Metering stays as it is until an operator switches it."
    second = agreement(catalog["reports-classic"], buyer, arn=ARN + "f")
    assert (second.pk != legacy.pk, second.identity) == (True, "license")


def test_a_license_does_not_adopt_another_customers_or_products_purchase(catalog):
    buyer, stranger = customer(account="123456789012"), customer(account="999999999999")
    agreement(catalog["reports-classic"], stranger)
    agreement(catalog["reports-payg"], buyer)

    agreement(catalog["reports-classic"], buyer, arn=ARN)

    assert Agreement.objects.count() == 3


def test_a_license_of_another_agreement_adopts_no_legacy_purchase(catalog):
    """With Concurrent Agreements a buyer has several of a product at once."""
    buyer = customer(account="123456789012", identifier="legacy-1")
    first = agreement(catalog["reports-classic"], buyer, agreement_id="agmt-A")

    second = agreement(catalog["reports-classic"], buyer, arn=ARN, agreement_id="agmt-B")

    assert (second.pk != first.pk, second.identity, second.agreement_id) == (True, "license", "agmt-B")
    assert agreement(catalog["reports-classic"], buyer, agreement_id="agmt-B") == second
    own = agreement(catalog["reports-classic"], buyer, arn=ARN + "f", agreement_id="agmt-A")
    assert (own.pk, own.license_arn) == (first.pk, ARN + "f")


def test_an_agreement_that_is_known_without_its_license_learns_it_whatever_became_of_it(catalog):
    buyer = customer(account="123456789012", identifier="legacy-1")
    failed = agreement(catalog["reports-classic"], buyer, agreement_id="agmt-A")
    Agreement.objects.update(status="failed")

    again = agreement(catalog["reports-classic"], buyer, arn=ARN, agreement_id="agmt-A")

    assert (again.pk, again.license_arn) == (failed.pk, ARN)


def test_without_a_license_another_agreement_is_not_the_one_that_is_open(catalog):
    buyer = customer(account="123456789012", identifier="legacy-1")
    first = agreement(catalog["reports-classic"], buyer, agreement_id="agmt-A")

    with pytest.raises(customers.Contradicted) as contradicted:
        agreement(catalog["reports-classic"], buyer, agreement_id="agmt-B")

    assert contradicted.value.agreement == first


@pytest.mark.django_db(transaction=True)
def test_two_licenses_told_at_once_adopt_no_purchase_twice(catalog):
    buyer, product = customer(account="123456789012", identifier="legacy-1"), catalog["reports-classic"]
    agreement(product, buyer)

    first, second = at_once(
        lambda: agreement(product, buyer, arn=ARN, agreement_id="agmt-A"),
        lambda: agreement(product, buyer, arn=ARN + "f", agreement_id="agmt-B"),
    )

    assert first.pk != second.pk
    assert {first.license_arn, second.license_arn} == {ARN, ARN + "f"}


@pytest.mark.django_db(transaction=True)
def test_a_purchase_told_of_twice_at_once_is_one_row(catalog):
    buyer, product = customer(account="123456789012"), catalog["reports-flex"]

    first, second = at_once(*[lambda: agreement(product, buyer, arn=ARN, agreement_id="agmt-1")] * 2)

    assert first.pk == second.pk
