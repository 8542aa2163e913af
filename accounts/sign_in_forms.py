"""allauth's forms, with labels as the rest of the site writes them and bounds where it has none."""

from typing import Any

from allauth.account import forms as account_forms
from allauth.mfa.webauthn import forms as key_forms
from django import forms
from django.utils.translation import gettext_lazy as _

_KEY_NAME_LENGTH = 100


class LoginForm(account_forms.LoginForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["remember"].label = _("Stay signed in on this device")


class ChangePasswordForm(account_forms.ChangePasswordForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["oldpassword"].label = _("Current password")
        _name_new_password(self.fields)


class ResetPasswordKeyForm(account_forms.ResetPasswordKeyForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _name_new_password(self.fields)


class AddKeyForm(key_forms.AddWebAuthnForm):
    # Required nowhere: the browser has made the key by the time that this is checked.
    name = forms.CharField(label=_("Name of the key"), required=False, max_length=_KEY_NAME_LENGTH)
    passwordless = forms.BooleanField(
        label=_("Sign in with this key alone"),
        required=False,
        help_text=_("Then it needs no password: your device asks for a fingerprint, your face or a PIN."),
    )


class RenameKeyForm(key_forms.EditWebAuthnForm):
    name = forms.CharField(label=_("Name of the key"), max_length=_KEY_NAME_LENGTH)


def _name_new_password(fields: dict[str, forms.Field]) -> None:
    fields["password1"].label = _("New password")
    fields["password2"].label = _("New password, once more")
