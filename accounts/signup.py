"""allauth's own questions, answered for this project."""

from datetime import UTC
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from allauth.core.exceptions import ReauthenticationRequired
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.core.mail import EmailMessage
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from accounts import invitation_links, mail, proof
from accounts.adapter import get_adapter
from accounts.models import User
from accounts.names import plain
from accounts.preferences import is_offered

NAME_LENGTH = 150  # of User.name


class AccountAdapter(DefaultAccountAdapter):
    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "account_inactive": _("This account is closed."),
        "email_password_mismatch": _("This email address and password do not belong together."),
        "email_taken": _("This email address belongs to an account already."),
        "enter_current_password": _("This is not your current password."),
        "incorrect_code": _("This is not the code. Look at the newest mail, or try once more."),
        "incorrect_password": _("This is not your password."),
        "too_many_login_attempts": _("That was too often. Wait a few minutes, then start again."),
        "rate_limited": _("That was too often. Wait a minute, then try again."),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        # Who was invited may come in even where sign-up is closed to others.
        return get_adapter().may_sign_up(request) or invitation_links.opens_sign_up(
            request, now=timezone.now()
        )

    def clean_email(self, email: str) -> str:
        """Django's form lets pass what is longer than the column that it is for."""
        User._meta.get_field("email").run_validators(email)
        cleaned: str = super().clean_email(email)
        return cleaned

    def new_user(self, request: HttpRequest) -> User:
        # Mails reach people whom no browser speaks for: they are written in the language of the sign-up.
        user = super().new_user(request)
        assert isinstance(user, User)
        user.language = get_language() or ""
        return user

    def get_reauthentication_methods(self, user: AbstractBaseUser | AnonymousUser) -> list[dict[str, str]]:
        ways: list[dict[str, str]] = super().get_reauthentication_methods(user)
        if ways or not user.is_authenticated:
            return ways
        by_code = _("Use a code sent by mail")
        return [{"id": "prove", "description": str(by_code), "url": reverse("accounts:prove")}]

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Raises ReauthenticationRequired for those whom allauth never asks, as they cannot answer."""
        required: bool = super().is_reauthentication_required(app=app, **kwargs)
        user = self.request.user if self.request is not None else None
        if required and isinstance(user, User) and not proof.is_recent(self.request, user):
            is_never_asked = not super().get_reauthentication_methods(user)
            if is_never_asked:
                raise ReauthenticationRequired
        return required

    def send_notification_mail(
        self,
        template_prefix: str,
        user: AbstractBaseUser,
        context: dict[str, Any] | None = None,
        email: str | None = None,
    ) -> None:
        super().send_notification_mail(template_prefix, user, {**(context or {}), "user": user}, email)

    def render_mail(
        self,
        template_prefix: str,
        email: str | list[str],
        context: dict[str, Any],
        headers: dict[str, str] | None = None,
    ) -> EmailMessage:
        """As every mail here: in the reader's language, as text and HTML, instants in UTC."""
        # allauth renders subjects without the context processors, and its own name for the site is the host.
        ours = {
            "site_name": settings.SITE_NAME,
            "support_email": settings.SUPPORT_EMAIL,
            "login_url": settings.SITE_URL + reverse("account_login"),
        }
        with translation.override(self._language_of(email, context)), timezone.override(UTC):
            message = super().render_mail(template_prefix, email, {**ours, **context}, headers)
            return mail.in_html_too(message, reply_to=settings.SUPPORT_EMAIL)

    def _language_of(self, email: str | list[str], context: dict[str, Any]) -> str:
        """Theirs who have the address; where it is not known, that of the page which they are on."""
        user = context.get("user")
        if not isinstance(user, User):
            to = email if isinstance(email, str) else next(iter(email), "")
            known = EmailAddress.objects.filter(email=to.lower(), verified=True).select_related("user")
            user = next((address.user for address in known), None)
        if isinstance(user, User) and is_offered(user.language):
            return user.language
        return translation.get_language() or settings.LANGUAGE_CODE


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    """For who comes from Google, Microsoft or GitHub. Sign-up is as open to them as to everybody: it asks
    AccountAdapter.
    """

    error_messages = {
        **DefaultSocialAccountAdapter.error_messages,
        "no_password": _("Set a password first: without one you could not sign in any more."),
        "no_verified_email": _("Verify an email address first: without one you could not sign in any more."),
    }

    def list_apps(
        self, request: HttpRequest | None, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        """Those of the settings alone, which the security policy knows too: no page asks the database."""
        return [
            SocialApp(provider=name, **app)
            for name, options in settings.SOCIALACCOUNT_PROVIDERS.items()
            for app in options["APPS"]
            if provider in (None, name) and client_id in (None, app["client_id"])
        ]

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, Any]) -> User:
        user = super().populate_user(request, sociallogin, data)
        assert isinstance(user, User)
        parts = (data.get("first_name"), data.get("last_name"))
        name = data.get("name") or " ".join(part for part in parts if part)
        user.name = plain(name, length=NAME_LENGTH)
        return user
