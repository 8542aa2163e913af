"""System checks: the triggers are there, the features are spelled right."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections
from django.utils.module_loading import import_string

from billing import gates, triggers
from billing.forms import ClaimForm
from billing.trail import archive

_FEATURE_KEYS = {"dimensions", "products", "quota", "count", "outage"}


@register(Tags.database)
def triggers_are_installed(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    errors: list[CheckMessage] = []
    for alias in databases or []:
        connection = connections[alias]
        if triggers.TRIGGERS[0].table not in connection.introspection.table_names():
            continue  # nothing is migrated yet
        absent = triggers.missing(connection)
        if absent:
            errors.append(
                Error(
                    f"{len(absent)} ledger triggers are missing in {alias!r}: {', '.join(sorted(absent))}",
                    hint="Run `manage.py migrate`, which makes them again.",
                    id="billing.E001",
                )
            )
    return errors


@register()
def features_are_well_formed(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    errors: list[CheckMessage] = []
    for name, feature in settings.FEATURES.items():
        unknown = set(feature) - _FEATURE_KEYS
        if unknown:
            errors.append(
                Error(
                    f"FEATURES[{name!r}] has unknown keys: {', '.join(sorted(unknown))}",
                    hint=f"Known keys: {', '.join(sorted(_FEATURE_KEYS))}.",
                    id="billing.E002",
                )
            )
        if not feature.get("dimensions") and not feature.get("products"):
            errors.append(
                Error(
                    f"Nothing grants FEATURES[{name!r}]",
                    hint="Name at least one of its dimensions or products.",
                    id="billing.E003",
                )
            )
        outage = feature.get("outage", gates.OPEN)
        if not isinstance(outage, timedelta) and outage not in (gates.OPEN, gates.CLOSED):
            errors.append(
                Error(
                    f"FEATURES[{name!r}] has the unknown outage policy {outage!r}",
                    hint='Say "open", "closed", or how long it stays open: timedelta(hours=24).',
                    id="billing.E004",
                )
            )
        if "count" in feature and not _is_function(feature["count"]):
            errors.append(
                Error(
                    f"FEATURES[{name!r}] counts with {feature['count']!r}, which is no function to import",
                    hint="Name a function by its dotted path: it takes an organization and now, and counts.",
                    id="billing.E005",
                )
            )
    return errors


@register()
def audit_links_are_kept_for_a_year(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if settings.AUDIT_KEPT_FOR >= archive.LEAST_KEPT:
        return []
    return [
        Error(
            f"AUDIT_KEPT_DAYS is {settings.AUDIT_KEPT_FOR.days}: the audit trail is kept for a year at least",
            hint=f"Set it to {archive.LEAST_KEPT.days} or more, or leave it out.",
            id="billing.E006",
        )
    ]


@register()
def the_onboarding_form_asks_what_must_be_known(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    try:
        form = import_string(settings.ONBOARDING_FORM)
    except ImportError:
        form = None
    if isinstance(form, type) and issubclass(form, ClaimForm):
        return []
    return [
        Error(
            f"ONBOARDING_FORM is {settings.ONBOARDING_FORM!r}, which is no subclass of ClaimForm to import",
            hint="Name a subclass of billing.forms.ClaimForm by its dotted path: docs/onboarding.md.",
            id="billing.E007",
        )
    ]


def _is_function(path: object) -> bool:
    try:
        return isinstance(path, str) and callable(import_string(path))
    except ImportError:
        return False
