"""Who changed what is for sale, on the audit stream "system": in the console, by `load_catalog` or a shell.

What a dimension draws on decides what is billed, so its history belongs to "why was this buyer billed?". A
bulk ``QuerySet.update()`` goes unseen, as it does by every signal.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete, post_save, pre_save
from django.utils import timezone

from billing import audit
from billing.models import Dimension, Product
from billing.trail import acting

Row = Product | Dimension


def connect() -> None:
    """Called once, when the apps are loaded."""
    for kind in (Product, Dimension):
        pre_save.connect(_remember, sender=kind)
        post_save.connect(_saved, sender=kind)
        post_delete.connect(_deleted, sender=kind)


def _record(row: Row, what: str, **data: Any) -> None:
    noun, ids = _named(row)
    # With the change, if it has a transaction.
    with transaction.atomic():
        audit.record(audit.SYSTEM, f"{noun}_{what}", by=acting.actor(), at=timezone.now(), **ids, **data)


def _named(row: Row) -> tuple[str, dict[str, Any]]:
    """The codes outlive the row: the trail tells of it when it is gone."""
    if isinstance(row, Product):
        return "product", {"product": row.pk, "product_code": row.code}
    return "dimension", {"product": row.product_id, "dimension": row.pk, "key": row.key}


def _values(row: Row) -> dict[str, Any]:
    columns = (column.name for column in row._meta.concrete_fields if not column.primary_key)
    found = {name: getattr(row, name) for name in columns if name != "product"}
    return {name: value.key if isinstance(value, Dimension) else value for name, value in found.items()}


def _remember(instance: Row, raw: bool, **kwargs: Any) -> None:
    known = None if raw else type(instance)._default_manager.filter(pk=instance.pk).first()
    instance._before = _values(known) if known else {}  # type: ignore[union-attr]  # for _saved, which follows


def _saved(instance: Row, created: bool, raw: bool, **kwargs: Any) -> None:
    if raw:
        return
    before, after = instance._before, _values(instance)  # type: ignore[union-attr]
    changed = [name for name, value in after.items() if before.get(name) != value]
    if created:
        _record(instance, "added", after=after)
    elif changed:
        was = {name: before.get(name) for name in changed}
        _record(instance, "changed", before=was, after={name: after[name] for name in changed})


def _deleted(instance: Row, **kwargs: Any) -> None:
    _record(instance, "removed", before=_values(instance))
