"""allauth's own questions, answered for this project."""

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest

from accounts.adapter import get_adapter


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return get_adapter().may_sign_up(request)
