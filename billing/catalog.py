"""Reading the catalog file into products and dimensions."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from billing.models import Dimension, Product


class CatalogError(Exception):
    """The catalog file is not usable; the message says where and why."""


@transaction.atomic
def load(catalog: dict[str, Any]) -> list[Product]:
    """Create or update what ``catalog`` lists; nothing is removed. Raises CatalogError, and changes nothing."""
    return [_load_product(entry) for entry in catalog.get("products", [])]


def _load_product(entry: dict[str, Any]) -> Product:
    try:
        product = Product.objects.filter(code=entry["code"]).first() or Product(code=entry["code"])
        _set(product, entry, "product_id", "title", "pricing")
        # Entitled ones first: metered ones may draw on them.
        for part in sorted(entry.get("dimensions", []), key=lambda part: part["kind"]):
            known = product.dimensions.filter(key=part["key"]).first()
            dimension = known or Dimension(product=product, key=part["key"])
            dimension.included_by = _entitled(product, part.get("included_by"))
            dimension.unit = part.get("unit", "")
            dimension.allowance_period = part.get("allowance_period", Dimension.Period.TERM)
            _set(dimension, part, "label", "kind")
    except KeyError as error:
        raise CatalogError(f"Product {entry.get('code', '?')}: {error} is missing.") from error
    except ValidationError as error:
        raise CatalogError(f"Product {entry.get('code', '?')}: {' '.join(error.messages)}") from error
    return product


def _set(row: Product | Dimension, entry: dict[str, Any], *names: str) -> None:
    for name in names:
        setattr(row, name, entry[name])
    row.full_clean()
    row.save()


def _entitled(product: Product, key: str | None) -> Dimension | None:
    if key is None:
        return None
    found = product.dimensions.filter(key=key, kind=Dimension.Kind.ENTITLED).first()
    if found is None:
        raise CatalogError(f"Product {product.code}: included_by {key!r} is not one of its entitled dimensions.")
    return found
