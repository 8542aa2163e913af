"""Forms only check; the flows act."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django import forms
from django.conf import settings
from django.core import signing
from django.core.serializers.json import DjangoJSONEncoder
from django.forms.boundfield import BoundField
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from accounts import names
from accounts.models import Organization
from billing.models import Registration

NEW = "new"
_SALT = "billing.forms.claim"


class ClaimForm(forms.Form):
    """Where a purchase should go: an organization the person administers, or a new one.

    A fork asks more with a subclass: its further fields are shown, checked and kept in Registration.answers.
    ``ONBOARDING_FORM`` in the settings names it; docs/onboarding.md has an example.
    """

    registration = forms.CharField(widget=forms.HiddenInput)
    organization = forms.ChoiceField(label=_("Workspace"), widget=forms.RadioSelect)
    name = forms.CharField(
        label=_("Name of the new workspace"),
        max_length=Organization._meta.get_field("name").max_length,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )

    def __init__(
        self,
        data: Any = None,
        *,
        organizations: Iterable[Organization],
        registration: Registration | None = None,
        preferred: Organization | None = None,
    ) -> None:
        """``organizations``: those the person administers. ``preferred`` is ticked, if it is one of them."""
        self._organizations = {str(organization.pk): organization for organization in organizations}
        prefix = f"arrival-{registration.pk}" if registration else None
        super().__init__(
            data,
            initial=self._initial(registration, preferred),
            auto_id=f"{prefix}-%s" if prefix else "id_%s",
        )
        choice = self.fields["organization"]
        assert isinstance(choice, forms.ChoiceField)
        choice.choices = [
            *((key, organization.name) for key, organization in self._organizations.items()),
            (NEW, _("A new workspace")),
        ]

    def _initial(self, registration: Registration | None, preferred: Organization | None) -> dict[str, Any]:
        first = next(iter(self._organizations), NEW)
        mine = str(preferred.pk) if preferred and str(preferred.pk) in self._organizations else first
        return {"registration": reference(registration) if registration else "", "organization": mine}

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        return names.checked_to_be_seen(name) if name else ""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        # What is wrong with the name itself is said already.
        if cleaned.get("organization") == NEW and not cleaned.get("name") and "name" not in self.errors:
            self.add_error("name", _("Give the new workspace a name, for example your company's."))
        return cleaned

    @property
    def chosen(self) -> Organization | None:
        """The organization chosen; None for a new one."""
        return self._organizations.get(self.cleaned_data["organization"])

    @property
    def questions(self) -> list[BoundField]:
        """The fields that a fork has added."""
        return [self[name] for name in self.fields if name not in ClaimForm.base_fields]

    @property
    def answers(self) -> dict[str, Any]:
        """What was said to them, as JSON can hold it: dates and decimals are text."""
        said = {field.name: self.cleaned_data.get(field.name) for field in self.questions}
        answers: dict[str, Any] = json.loads(json.dumps(said, default=_as_json))
        return answers


def _as_json(value: object) -> Any:
    try:
        return DjangoJSONEncoder().default(value)
    except TypeError:
        return str(value)


def onboarding_form() -> type[ClaimForm]:
    """ClaimForm, or the fork's own."""
    form: type[ClaimForm] = import_string(settings.ONBOARDING_FORM)
    return form


def reference(registration: Registration) -> str:
    """A name for a registration that cannot be guessed from another's."""
    return signing.dumps(registration.pk, salt=_SALT)


def registration_pk(text: str) -> int | None:
    """The way back from ``reference``; None for anything we did not sign."""
    try:
        pk = signing.loads(text, salt=_SALT)
    except signing.BadSignature:
        return None
    return int(pk)
