"""The operators' console: what came from AWS, what went there, and why. Importing it registers all."""

from billing.admin import catalog, customers, entitlements, inbox, ledger, people, submissions, trail, usage

__all__ = [
    "catalog",
    "customers",
    "entitlements",
    "inbox",
    "ledger",
    "people",
    "submissions",
    "trail",
    "usage",
]
