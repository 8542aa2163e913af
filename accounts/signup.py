"""allauth's own questions, answered for this project."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import get_language

from accounts.adapter import get_adapter
from accounts.models import User


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return get_adapter().may_sign_up(request)

    def new_user(self, request: HttpRequest) -> User:
        # Mails reach people whom no browser speaks for: they are written in the language of the sign-up.
        user = super().new_user(request)
        assert isinstance(user, User)
        user.language = get_language() or ""
        return user

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        # allauth renders subjects without the context processors, and its own name for the site is the host.
        ours = {
            "site_name": settings.SITE_NAME,
            "support_email": settings.SUPPORT_EMAIL,
            "login_url": settings.SITE_URL + reverse("account_login"),
        }
        super().send_mail(template_prefix, email, {**ours, **context})
