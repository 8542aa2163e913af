"""What others may decide about people, without accounts knowing them.

``ACCOUNTS_ADAPTER`` in the settings names a subclass of AccountsAdapter; billing brings one. This is how
a purchase can open sign-up or send a new user to its welcome page while accounts stays free of AWS.
"""

from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest
from django.utils.module_loading import import_string

from accounts.models import Organization, User


@dataclass(frozen=True, slots=True)
class NavItem:
    label: str
    url: str


class AccountsAdapter:
    """The answers when nobody else has an opinion."""

    def may_sign_up(self, request: HttpRequest) -> bool:
        return bool(settings.SIGNUP_WITHOUT_PURCHASE)

    def after_sign_in(self, request: HttpRequest, user: User) -> str | None:
        """A URL that matters more than the organization's page right now, if there is one."""
        return None

    def nav_items(self, organization: Organization, user: User) -> list[NavItem]:
        """Further pages of an organization, for its navigation."""
        return []


def get_adapter() -> AccountsAdapter:
    adapter_class: type[AccountsAdapter] = import_string(settings.ACCOUNTS_ADAPTER)
    return adapter_class()
