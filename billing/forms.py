"""Forms only check; the flows act."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core import signing
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization, User
from billing.models import Registration

NEW = "new"
_SALT = "billing.forms.claim"


class ClaimForm(forms.Form):
    """Where a purchase should go: an organization the person administers, or a new one."""

    registration = forms.CharField(widget=forms.HiddenInput)
    organization = forms.ChoiceField(label=_("Workspace"), widget=forms.RadioSelect)
    name = forms.CharField(
        label=_("Name of the new workspace"),
        max_length=120,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )

    def __init__(
        self,
        data: Any = None,
        *,
        user: User,
        registration: Registration | None = None,
        preferred: Organization | None = None,
    ) -> None:
        self._organizations = {
            str(organization.pk): organization for organization in Organization.objects.administered_by(user)
        }
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

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("organization") == NEW and not cleaned.get("name"):
            self.add_error("name", _("Give the new workspace a name, for example your company's."))
        return cleaned

    @property
    def chosen(self) -> Organization | None:
        """The organization chosen; None for a new one."""
        return self._organizations.get(self.cleaned_data["organization"])


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
