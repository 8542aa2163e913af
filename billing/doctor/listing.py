"""The listing as AWS knows it, the catalog as we do, and the features that are built on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings

from billing.aws.errors import MarketplaceError
from billing.doctor.findings import Finding, Patient, bad, good, open_question, refused
from billing.models import Dimension, MeteringRecord, Product

_RECENT = timedelta(days=30)
_LOAD = "Run manage.py load_catalog."
_WRONG_NAME = "InvalidUsageDimensionException"


# Of each product of the catalog, by its code: its dimensions' names and kinds.
Listed = dict[str, set[tuple[str, str]]]


def look(patient: Patient) -> Iterator[Finding]:
    products = list(Product.objects.prefetch_related("dimensions").order_by("pk"))
    ours = {product.code: {(one.key, one.kind) for one in product.dimensions.all()} for product in products}
    listed = _listed()
    yield _catalog(listed, ours)
    # What the file says is what is sold: rows of what it no longer lists stay, and nobody can buy them.
    yield from _features(ours if isinstance(listed, str) else listed)
    for product in products:
        if patient.identity is None:
            yield open_question(f"product {product.code}", f"Product {product.code}: AWS was not asked")
        else:
            yield from _at_aws(product, patient)
        yield from _metered(product, patient)


def _listed() -> Listed | str:
    """What the catalog's file lists, or what is wrong with it."""
    try:
        entries: list[dict[str, Any]] = json.loads(settings.MARKETPLACE_CATALOG.read_text())["products"]
        return {
            entry["code"]: {(part["key"], part["kind"]) for part in entry.get("dimensions", [])}
            for entry in entries
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return type(error).__name__


def _catalog(listed: Listed | str, ours: Listed) -> Finding:
    path = settings.MARKETPLACE_CATALOG
    if isinstance(listed, str):
        return bad(
            "catalog",
            f"The catalog {path} cannot be read",
            cause=listed,
            fix="Correct MARKETPLACE_CATALOG, or the file.",
        )
    missing = [code for code, dimensions in listed.items() if dimensions - ours.get(code, set())]
    missing += [code for code in listed if code not in ours]
    gone = [code for code, dimensions in ours.items() if dimensions - listed.get(code, set())]
    gone += [code for code in ours if code not in listed]
    if missing:
        names = ", ".join(sorted(set(missing)))
        return bad("catalog", f"The catalog has changed since it was loaded: {names}", fix=_LOAD)
    if not ours:
        return bad("catalog", "The catalog lists no product", fix=f"Describe your listing in {path}. {_LOAD}")
    if gone:
        return open_question(
            "catalog",
            f"The catalog no longer lists all that was loaded: {', '.join(sorted(set(gone)))}",
            fix="manage.py load_catalog --prune removes what nobody ever had; what was sold stays known.",
        )
    return good("catalog", f"The catalog is loaded: {', '.join(ours)}")


def _features(listed: Listed) -> Iterator[Finding]:
    keys = {key for dimensions in listed.values() for key, _kind in dimensions}
    for name, feature in settings.FEATURES.items():
        dimensions = [*feature.get("dimensions", ()), *filter(None, [feature.get("quota")])]
        unknown = [key for key in dimensions if key not in keys]
        unknown += [code for code in feature.get("products", ()) if code not in listed]
        if unknown:
            yield bad(
                f"feature {name}",
                f"FEATURES[{name!r}] names what no listing has: {', '.join(dict.fromkeys(unknown))}",
                cause="Nobody can buy it under that name. Names are case-sensitive.",
                fix="Correct FEATURES in the settings, or the catalog.",
            )
        else:
            yield good(f"feature {name}", f"Feature {name}: everything that grants it is listed")
    for code, sold in listed.items() if settings.FEATURES else ():
        if not _opens_something(code, sold):
            yield bad(
                f"features of {code}",
                f"Who buys {code} finds every feature closed",
                cause="No entry of FEATURES names the product or a dimension that is bought ahead.",
                fix="Add the product code to `products` of a feature in the settings, or a dimension of it.",
            )


def _opens_something(code: str, sold: set[tuple[str, str]]) -> bool:
    entitled = {key for key, kind in sold if kind == Dimension.Kind.ENTITLED}
    return any(
        code in feature.get("products", ()) or not entitled.isdisjoint(feature.get("dimensions", ()))
        for feature in settings.FEATURES.values()
    )


def _at_aws(product: Product, patient: Patient) -> Iterator[Finding]:
    check = f"product {product.code}"
    try:
        rows = patient.probes.first_entitlements(product.code)
    except MarketplaceError as error:
        if error.code != "InvalidParameterException":
            yield refused(check, f"Product {product.code}", error, allow="aws-marketplace:GetEntitlements")
        elif product.has_entitlements:
            yield bad(
                check,
                f"AWS knows no product {product.code} of this account",
                cause=f"{error.code}: GetEntitlements does not take the code.",
                fix=f"Copy the product code from the listing into the catalog. {_LOAD}",
            )
        else:
            yield open_question(check, f"Product {product.code}: AWS tells nothing of subscriptions")
        return
    known = {one.key for one in product.dimensions.all() if one.kind == Dimension.Kind.ENTITLED}
    strange = sorted({row.dimension for row in rows} - known)
    if strange:
        yield bad(
            check,
            f"Buyers hold dimensions of {product.code} that the catalog lacks: {', '.join(strange)}",
            cause="What they bought opens nothing. Names are case-sensitive.",
            fix=f"Add them to the catalog with kind entitled. {_LOAD}",
        )
    elif product.has_entitlements and not rows:
        yield open_question(
            check,
            f"Product {product.code}: AWS takes the code; nobody holds an entitlement to compare names with",
        )
    elif product.has_entitlements:
        yield good(check, f"Product {product.code}: AWS takes the code, and its names are the catalog's")
    else:
        yield good(check, f"Product {product.code}: AWS takes the code")


def _metered(product: Product, patient: Patient) -> Iterator[Finding]:
    """A metered dimension's name is told by nothing but AWS's answer to usage."""
    keys = {one.key: one for one in product.dimensions.all() if one.kind == Dimension.Kind.METERED}
    if not keys:
        return
    check = f"usage of {product.code}"
    records = MeteringRecord.objects.filter(dimension__product=product)
    refused_keys = sorted(
        records.filter(
            state=MeteringRecord.State.PARKED, error_code=_WRONG_NAME, hour__gte=patient.now - _RECENT
        )
        .order_by()
        .values_list("dimension__key", flat=True)
        .distinct()
    )
    if refused_keys:
        yield bad(
            check,
            f"AWS does not know these metered dimensions of {product.code}: {', '.join(refused_keys)}",
            cause=f"{_WRONG_NAME}: their usage is parked.",
            fix="Add the dimension to the listing or correct its key in the catalog, then retry the parked"
            " records in the admin before their window closes.",
        )
        return
    untold = [
        key
        for key, one in keys.items()
        if not records.filter(dimension=one, state=MeteringRecord.State.ACCEPTED).exists()
    ]
    if untold:
        yield open_question(
            check,
            f"Usage of {product.code}: AWS has taken none yet of {', '.join(untold)}",
            fix="Buy it from a test account and use it: only AWS's answer proves a dimension's name.",
        )
    else:
        yield good(check, f"Usage of {product.code}: AWS has taken some of {', '.join(keys)}")
