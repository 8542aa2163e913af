"""What others may decide about people, without accounts knowing them.

``ACCOUNTS_ADAPTER`` in the settings names a subclass of AccountsAdapter; billing brings one. This is how
a purchase can open sign-up or send a new user to its welcome page while accounts stays free of AWS.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from django.conf import settings
from django.http import HttpRequest
from django.utils.module_loading import import_string

from accounts.models import Membership, Organization, User


@dataclass(frozen=True, slots=True)
class NavItem:
    label: str
    url: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What every page of an organization says on top; ``url`` with the label ``action`` is the way to act."""

    text: str
    tone: Literal["", "warning", "danger"] = ""
    url: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """A line about an organization: ``label`` is what, ``text`` how it stands, ``url`` where to read more."""

    label: str
    text: str
    tone: Literal["", "accent", "success", "warning", "danger"] = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """How many people fit in, and how many are in or invited."""

    limit: int
    taken: int

    @property
    def free(self) -> int:
        return max(0, self.limit - self.taken)


# A name, and rows that JSON can hold. They may be many: they are read one after the other, never as a list.
Part = tuple[str, Iterable[Mapping[str, Any]]]


class AccountsAdapter:
    """The answers when nobody else has an opinion."""

    def may_sign_up(self, request: HttpRequest) -> bool:
        return bool(settings.SIGNUP_WITHOUT_PURCHASE)

    def after_sign_in(self, request: HttpRequest, user: User) -> str | None:
        """A URL that matters more than the organization's page right now, if there is one."""
        return None

    def nav_items(self, membership: Membership) -> list[NavItem]:
        """Further pages of an organization, for a member's navigation."""
        return []

    def notices(self, membership: Membership) -> list[Notice]:
        """What a member must know about the organization, whichever of its pages they look at."""
        return []

    def may_add_member(self, organization: Organization, *, now: datetime) -> str | None:
        """None while one more place is free, else a sentence for people: why not, and what to do.

        Asked under the lock of the organization's row, before the row that takes the place is written:
        ``accounts.organizations.places_taken`` does not count it yet.
        """
        return None

    def places(self, organization: Organization, *, now: datetime) -> Places | None:
        """How many people fit in, where that is limited: for pages. ``may_add_member`` decides."""
        return None

    def summary(self, membership: Membership) -> list[Fact]:
        """What the first page of an organization says of it, in a line each."""
        return []

    def may_close(self, organization: Organization, *, now: datetime) -> str | None:
        """None if nothing stands against closing it, else a sentence for people: why not, and what to do.

        Asked under the lock of the organization's row; by pages also without.
        """
        return None

    def may_close_each(self, organizations: Sequence[Organization], *, now: datetime) -> Mapping[int, str]:
        """``may_close`` of several, by their keys: only those that something stands against.

        Whoever reads the database for it overrides this too: somebody may be alone in very many.
        """
        answers = {each.pk: self.may_close(each, now=now) for each in organizations}
        return {pk: refusal for pk, refusal in answers.items() if refusal is not None}

    def close(self, organization: Organization, *, by: User, now: datetime) -> None:
        """``organization`` is closed: let go of what names its people. Inside the transaction."""

    def forget(self, user: User, *, now: datetime) -> None:
        """``user`` closes their account: let go of what only they could use. Inside the transaction."""

    def export(self, organization: Organization) -> Iterator[Part]:
        """Further parts of an organization's data."""
        return iter(())

    def export_of(self, user: User) -> Iterator[Part]:
        """Further parts of a person's own data."""
        return iter(())


def get_adapter() -> AccountsAdapter:
    adapter_class: type[AccountsAdapter] = import_string(settings.ACCOUNTS_ADAPTER)
    return adapter_class()
