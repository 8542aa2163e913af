"""Exact quantities."""

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.expressions import Combinable
from django.utils.translation import gettext_lazy as _

PLACES = Decimal("0.000001")


class QuantityField(models.BigIntegerField):
    """A ``Decimal`` with six places, stored as a whole number of millionths.

    SQLite keeps a DecimalField as REAL and silently loses digits (2147483647.999999 comes back as
    2147483648); an integer column is exact, and sums exactly, on both databases. The widest value AWS
    takes, 9999999999.999999, uses a thousandth of the column.
    """

    if TYPE_CHECKING:  # what django-stubs reads a field's types from
        _pyi_private_set_type: Decimal | int | str | Combinable  # type: ignore[assignment]  # never a float
        _pyi_private_get_type: Decimal  # type: ignore[assignment]  # the column is whole, the value is not

    default_error_messages = {
        "invalid": _("“%(value)s” is not a decimal number."),
        "places": _("“%(value)s” has more than six decimal places."),
    }

    def to_python(self, value: Any) -> Decimal | None:
        if value is None:
            return None
        if isinstance(value, float):
            # A float has already lost what the buyer used.
            raise ValidationError(self.error_messages["invalid"], code="invalid", params={"value": value})
        try:
            number = Decimal(value)
        except (InvalidOperation, TypeError, ValueError) as error:
            raise ValidationError(
                self.error_messages["invalid"], code="invalid", params={"value": value}
            ) from error
        # Thirteen digits before the point are all that the column holds, and what quantize can take.
        if not number.is_finite() or number.adjusted() >= 13:
            raise ValidationError(self.error_messages["invalid"], code="invalid", params={"value": value})
        if number.as_tuple().exponent < -6 and number != number.quantize(PLACES):  # type: ignore[operator]
            raise ValidationError(self.error_messages["places"], code="places", params={"value": value})
        return number

    def get_prep_value(self, value: Any) -> Any:
        if value is None or hasattr(value, "resolve_expression"):
            return value
        number = self.to_python(value)
        assert number is not None
        return int(number.scaleb(6).to_integral_exact())

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Decimal | None:
        # PostgreSQL's SUM of bigints is numeric, SQLite's an integer: both are millionths.
        return None if value is None else Decimal(int(value)).scaleb(-6)

    def formfield(self, **kwargs: Any) -> Any:
        # Past BigIntegerField, whose form field would be a whole number within 64 bits.
        return models.Field.formfield(self, **kwargs)
