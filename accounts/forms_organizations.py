"""What people fill in about organizations. Forms only check; the flows act."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from accounts import names
from accounts.models import Membership, Organization

Role = Membership.Role

# So many are invited at once.
INVITED_AT_ONCE = 50

# "Ada Lovelace <ada@acme.example>", as mail programs copy it.
_IN_BRACKETS = re.compile(r"[^<>,;\n]*<([^<>\s]*)>")


class NameForm(forms.Form):
    name = forms.CharField(
        label=_("Name of the workspace"),
        max_length=Organization._meta.get_field("name").max_length,
        help_text=_("For example your company or your team. You can change it later."),
        error_messages={
            "required": _("Give the workspace a name."),
            "max_length": _("Use at most %(limit_value)d characters."),
        },
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )

    def clean_name(self) -> str:
        return names.checked_to_be_seen(self.cleaned_data["name"])


class InviteForm(forms.Form):
    emails = forms.CharField(
        label=_("Email addresses"),
        max_length=20_000,
        help_text=_("One or several, each on a line of its own or separated by commas."),
        error_messages={
            "required": _("Write at least one email address."),
            "max_length": _("That is too much text for a list of addresses."),
        },
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "autocapitalize": "none"}),
    )
    role = forms.ChoiceField(
        label=_("Role"),
        initial=Role.MEMBER.value,
        error_messages={"invalid_choice": _("Choose one of the roles in the list.")},
    )

    def __init__(self, data: Any = None, *, roles: Iterable[str]) -> None:
        super().__init__(data)
        choice = self.fields["role"]
        assert isinstance(choice, forms.ChoiceField)
        # The least first: nobody becomes an admin by an oversight.
        choice.choices = [(role, Role(role).label) for role in reversed(list(roles))]

    def clean_emails(self) -> list[str]:
        """Each address once, in the order in which they stand. What is none is left for the flow to say."""
        listed = _IN_BRACKETS.sub(r" \1 ", self.cleaned_data["emails"])
        addresses = {address.lower(): address for address in re.split(r"[\s,;]+", listed) if address}
        if not addresses:
            raise ValidationError(_("Write at least one email address."))
        if len(addresses) > INVITED_AT_ONCE:
            raise ValidationError(
                ngettext_lazy(
                    "Invite at most %(count)d person at once.",
                    "Invite at most %(count)d people at once.",
                    INVITED_AT_ONCE,
                )
                % {"count": INVITED_AT_ONCE}
            )
        return list(addresses.values())


class RoleForm(forms.Form):
    role = forms.ChoiceField(
        label=_("Role"),
        choices=Role.choices,
        widget=forms.RadioSelect,
        error_messages={"invalid_choice": _("Choose one of the roles in the list.")},
    )


class ConfirmForm(forms.Form):
    """What cannot be undone is confirmed by writing what it is about."""

    typed = forms.CharField(
        max_length=300,
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}
        ),
    )

    def __init__(self, data: Any = None, *, expected: str, label: str, error: str) -> None:
        super().__init__(data)
        self._expected, self._error = expected, error
        field = self.fields["typed"]
        field.label = label
        field.error_messages["required"] = error

    def clean_typed(self) -> str:
        typed: str = self.cleaned_data["typed"]
        if _compared(typed) != _compared(self._expected):
            raise ValidationError(self._error)
        return typed


def _compared(text: str) -> str:
    """Keyboards write the same letters in several ways, and nobody sees how many spaces there are."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
