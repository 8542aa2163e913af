"""The operators' console: what came from AWS, what went there, and why. Importing it registers all."""

from billing.admin import (
    archives,
    catalog,
    customers,
    entitlements,
    inbox,
    jobs,
    ledger,
    people,
    reconciliation,
    submissions,
    trail,
    usage,
)
from billing.admin.actions import results

__all__ = [
    "archives",
    "catalog",
    "customers",
    "entitlements",
    "inbox",
    "jobs",
    "ledger",
    "people",
    "reconciliation",
    "results",
    "submissions",
    "trail",
    "usage",
]
