"""Quantities are exact on both databases."""

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, models
from django.db.models import F, Sum
from django.forms import CharField

from billing.models import QuantityField, UsageEvent
from tests.billing.ledger import NOON, make_agreement, use

LARGEST = Decimal("9999999999.999999")


@pytest.mark.parametrize("text", ["0", "0.000001", "2147483647.999999", "9999999999.999999", "123456.7"])
def test_a_quantity_comes_back_digit_for_digit(acme, catalog, text):
    agreement = make_agreement(catalog, acme)
    event = use(agreement, text)
    event.refresh_from_db()
    assert event.quantity == Decimal(text)


def test_the_column_holds_whole_millionths(acme, catalog):
    event = use(make_agreement(catalog, acme), "2147483647.999999")
    with connection.cursor() as cursor:
        cursor.execute("SELECT quantity FROM billing_usageevent WHERE id = %s", [event.pk])
        assert cursor.fetchone() == (2147483647999999,)


def test_sums_are_exact_where_floats_are_not(acme, catalog):
    agreement = make_agreement(catalog, acme)
    for number in range(10):
        use(agreement, "0.1", key=f"tenth-{number}")
    use(agreement, LARGEST, key="large")
    total = UsageEvent.objects.aggregate(total=Sum("quantity"))["total"]
    assert total == LARGEST + 1
    assert isinstance(total, Decimal)


def test_a_sum_over_nothing_is_none(db):
    assert UsageEvent.objects.aggregate(total=Sum("quantity"))["total"] is None


def test_quantities_compare_and_compute_in_queries(acme, catalog):
    agreement = make_agreement(catalog, acme)
    use(agreement, "1.5", key="small", at=NOON)
    use(agreement, "2.5", key="large", at=NOON)
    assert UsageEvent.objects.filter(quantity__gt=Decimal("1.5")).get().key == "large"
    assert UsageEvent.objects.filter(quantity=F("quantity")).count() == 2
    assert UsageEvent.objects.filter(quantity__in=["1.500", 7]).get().key == "small"


@pytest.mark.parametrize(
    "value", [1.5, float("nan"), "NaN", "Infinity", "-Infinity", "abc", "", [], object()]
)
def test_what_is_no_finite_decimal_is_refused(value):
    with pytest.raises(ValidationError) as refused:
        QuantityField().to_python(value)
    assert refused.value.code == "invalid"


def test_seven_decimals_are_refused_unless_the_seventh_is_zero():
    with pytest.raises(ValidationError) as refused:
        QuantityField().to_python("0.1234567")
    assert refused.value.code == "places"
    assert QuantityField().to_python("0.1234560") == Decimal("0.123456")


def test_a_number_too_long_to_round_is_refused_not_rounded():
    with pytest.raises(ValidationError):
        QuantityField().get_prep_value(Decimal("1234567890123456789012345678.1234567"))


@pytest.mark.parametrize(
    ("value", "millionths"), [(1, 10**6), ("1e3", 10**9), (Decimal("0.000001"), 1), (None, None)]
)
def test_the_database_gets_millionths(value, millionths):
    assert QuantityField().get_prep_value(value) == millionths


def test_none_stays_none_and_expressions_pass():
    assert QuantityField().to_python(None) is None
    expression = F("quantity")
    assert QuantityField().get_prep_value(expression) is expression


def test_its_form_field_takes_decimals():
    field = QuantityField().formfield()
    assert isinstance(field, CharField)
    assert isinstance(QuantityField(), models.BigIntegerField)


@pytest.mark.parametrize("value", ["1e13", "1e999999", Decimal("-99999999999999.5")])
def test_what_the_column_cannot_hold_is_refused(value):
    with pytest.raises(ValidationError):
        QuantityField().to_python(value)
