"""Reading the catalog file into products and dimensions."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import ProtectedError

from billing import events
from billing.models import Dimension, Product


class CatalogError(Exception):
    """The catalog file is not usable; the message says where and why."""


@transaction.atomic
def load(catalog: Any) -> list[Product]:
    """Create or update what ``catalog`` lists; nothing is removed. A CatalogError leaves all as it was."""
    if not isinstance(catalog, dict) or "products" not in catalog:
        raise CatalogError('The file is not an object with a list of "products".')
    ids = dict(Product.objects.values_list("code", "product_id"))
    products = [
        _load_product(entry, where) for where, entry in _parts(catalog, "products", "", named_by="code")
    ]
    if named_anew := [product for product in products if ids.get(product.code) != product.product_id]:
        events.reopen_foreign(named_anew)
    return products


@transaction.atomic
def prune(catalog: Any) -> list[str]:
    """Remove what ``catalog``, which was loaded, no longer lists. Returns what was removed.

    A product that anybody ever bought stays, and all its dimensions with it.
    """
    listed = {
        entry["code"]: {part["key"] for part in entry.get("dimensions", [])} for entry in catalog["products"]
    }
    removed: list[str] = []
    for product in Product.objects.filter(agreements=None).order_by("code"):
        # Those that draw on others go before them.
        unlisted = product.dimensions.exclude(key__in=listed.get(product.code, ())).order_by("-kind", "key")
        rows: list[Product | Dimension] = [*unlisted]
        if product.code not in listed:
            rows.append(product)
        names = [f"{product.code}: {row.key}" if isinstance(row, Dimension) else row.code for row in rows]
        try:
            with transaction.atomic():
                for row in rows:
                    row.delete()
        except ProtectedError:  # AWS's usage reports tell of it
            continue
        removed += names
    return removed


def _load_product(entry: dict[str, Any], where: str) -> Product:
    product = Product.objects.filter(code=entry["code"]).first() or Product(code=entry["code"])
    for name in ("product_id", "title", "pricing"):
        setattr(product, name, _text(entry, name, where))
    _save(product, where)
    dimensions = _parts(entry, "dimensions", where, named_by="key")
    # Entitled ones first: metered ones may draw on them.
    for place, part in sorted(
        dimensions, key=lambda placed: placed[1].get("kind") != Dimension.Kind.ENTITLED
    ):
        _load_dimension(product, part, place)
    return product


def _load_dimension(product: Product, part: dict[str, Any], where: str) -> None:
    known = product.dimensions.filter(key=part["key"]).first()
    dimension = known or Dimension(product=product, key=part["key"])
    dimension.kind = _text(part, "kind", where)
    dimension.label = _text(part, "label", where)
    dimension.unit = _text(part, "unit", where, default="")
    dimension.allowance_period = _text(part, "allowance_period", where, default=Dimension.Period.TERM)
    dimension.included_by = None
    if part.get("included_by") is not None:
        pool = _text(part, "included_by", where)
        dimension.included_by = product.dimensions.filter(key=pool, kind=Dimension.Kind.ENTITLED).first()
        if dimension.included_by is None:
            raise CatalogError(f"{where}.included_by: {pool!r} is no entitled dimension of {product.code}.")
    _save(dimension, where)


def _parts(
    holder: dict[str, Any], name: str, where: str, *, named_by: str
) -> list[tuple[str, dict[str, Any]]]:
    """The objects listed under ``name``, each with its place in the file, no two of the same name."""
    place = f"{where}.{name}" if where else name
    listed = holder.get(name, [])
    if not isinstance(listed, list):
        raise CatalogError(f"{place}: is not a list.")
    seen: set[str] = set()
    found: list[tuple[str, dict[str, Any]]] = []
    for index, part in enumerate(listed):
        if not isinstance(part, dict):
            raise CatalogError(f"{place}[{index}]: is not an object.")
        own_name = _text(part, named_by, f"{place}[{index}]")
        if own_name in seen:
            raise CatalogError(f"{place}[{index}].{named_by}: {own_name!r} is listed twice.")
        seen.add(own_name)
        found.append((f"{place}[{index}]", part))
    return found


def _text(part: dict[str, Any], name: str, where: str, default: str | None = None) -> str:
    value = part.get(name, default)
    if name not in part and default is None:
        raise CatalogError(f"{where}.{name}: is missing.")
    if not isinstance(value, str) or "\x00" in value:
        raise CatalogError(f"{where}.{name}: is not text.")
    return value


def _save(row: Product | Dimension, where: str) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        problems = (
            f"{where}: {' '.join(messages)}" if name == "__all__" else f"{where}.{name}: {' '.join(messages)}"
            for name, messages in error.message_dict.items()
        )
        raise CatalogError("\n".join(problems)) from error
    row.save()
