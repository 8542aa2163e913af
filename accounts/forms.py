"""What people fill in about themselves. Forms only check; accounts.preferences keeps it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from accounts import names
from accounts.models import User
from accounts.preferences import zones


class ProfileForm(forms.Form):
    name = forms.CharField(
        label=_("Name"),
        required=False,
        max_length=150,
        help_text=_("As your colleagues and we call you."),
        error_messages={"max_length": _("Use at most %(limit_value)d characters.")},
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    language = forms.ChoiceField(
        label=_("Language"),
        required=False,
        help_text=_("Of these pages and of the mails we send you."),
        error_messages={"invalid_choice": _("Choose one of the languages in the list.")},
    )
    time_zone = forms.ChoiceField(
        label=_("Time zone"),
        required=False,
        help_text=_("In which you read dates and times. AWS bills by UTC."),
        error_messages={"invalid_choice": _("Choose one of the time zones in the list.")},
    )

    def __init__(self, data: QueryDict | None = None, *, user: User) -> None:
        super().__init__(
            data, initial={"name": user.name, "language": user.language, "time_zone": user.time_zone}
        )
        _offer(self.fields["language"], [("", _("As my browser asks")), *settings.LANGUAGES])
        _offer(self.fields["time_zone"], [("", "UTC"), *zones()])

    def clean_name(self) -> str:
        return names.checked(self.cleaned_data["name"])


def _offer(field: forms.Field, choices: list[Any]) -> None:
    assert isinstance(field, forms.ChoiceField)
    field.choices = choices
