"""Signing in with an account elsewhere: on for each provider whose two keys are set, else without a trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured

# Microsoft's tenants that also take personal accounts, whose sign-in is another site's.
_WITH_PERSONAL_ACCOUNTS = frozenset({"common", "consumers"})


@dataclass(frozen=True, slots=True)
class Provider:
    """One that can be used. ``id`` is allauth's; ``origins`` are where its sign-in takes the browser."""

    id: str
    client_id: str
    secret: str
    origins: tuple[str, ...]
    tenant: str = ""

    @property
    def app(self) -> str:
        return f"allauth.socialaccount.providers.{self.id}"

    @property
    def options(self) -> dict[str, Any]:
        """Its entry in SOCIALACCOUNT_PROVIDERS."""
        app: dict[str, Any] = {"client_id": self.client_id, "secret": self.secret, "key": ""}
        if self.tenant:
            app["settings"] = {"tenant": self.tenant}
        return {"APPS": [app]}


def providers(keys: Mapping[str, tuple[str, str]], *, microsoft_tenant: str) -> list[Provider]:
    """Those of ``keys`` (id, and the secret) that are set. Half a pair stops the start."""
    found = []
    for name, (client_id, secret) in keys.items():
        if bool(client_id) != bool(secret):
            raise ImproperlyConfigured(
                f"Set both {name.upper()}_CLIENT_ID and {name.upper()}_CLIENT_SECRET, or neither of them."
            )
        if client_id:
            tenant = microsoft_tenant if name == "microsoft" else ""
            found.append(Provider(name, client_id, secret, _origins(name, tenant), tenant))
    return found


def _origins(name: str, tenant: str) -> tuple[str, ...]:
    if name == "google":
        return ("https://accounts.google.com",)
    if name == "github":
        return ("https://github.com",)
    personal = ("https://login.live.com",) if tenant in _WITH_PERSONAL_ACCOUNTS else ()
    return ("https://login.microsoftonline.com", *personal)
