""" "Is it you?", asked of who has neither a password nor a second factor to answer with."""

from __future__ import annotations

from typing import Any

from allauth.account.decorators import reauthentication_required
from allauth.account.forms import ConfirmLoginCodeForm
from allauth.account.internal.flows.login import record_authentication  # there is no other door to it
from allauth.account.views import BaseReauthenticateView, password_set
from allauth.core import ratelimit
from allauth.core.exceptions import ReauthenticationRequired
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from accounts import proof
from accounts.models import User


@method_decorator([never_cache, login_required], name="dispatch")
class ByCodeView(BaseReauthenticateView):
    """allauth's page, which goes on with what was asked for; the answer is a code that we mail."""

    form_class = ConfirmLoginCodeForm
    template_name = "account/reauthenticate_by_code.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if proof.expected(request, self._user) is None:
            refused: HttpResponse | None = ratelimit.consume_or_429(
                request, action="proof_code", user=self._user
            )
            if refused is not None:
                return refused
            proof.send_code(request, self._user)
        return super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.POST.get("action") == "resend":
            proof.forget(request)
            return self._once_more()
        if proof.expected(request, self._user) is None:
            messages.error(request, _("That code is not good any more. We have sent you a new one."))
            return self._once_more()
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: ConfirmLoginCodeForm) -> HttpResponse:
        proof.forget(self.request)
        record_authentication(self.request, self._user, method="code", reauthenticated=True)
        response: HttpResponse = super().form_valid(form)
        return response

    def form_invalid(self, form: ConfirmLoginCodeForm) -> HttpResponse:
        proof.note_wrong(self.request)
        response: HttpResponse = super().form_invalid(form)
        return response

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "code": proof.expected(self.request, self._user)}

    def _once_more(self) -> HttpResponse:
        """The page itself sends a code where none is good."""
        return redirect(self.passthrough_next_url(self.request.path))  # type: ignore[no-untyped-call]  # allauth's

    @property
    def _user(self) -> User:
        user = self.request.user
        assert isinstance(user, User)
        return user


by_code = ByCodeView.as_view()

_set_password = reauthentication_required(password_set, app="allauth.account")


@never_cache
@login_required
@sensitive_post_parameters("password1", "password2")
def set_password(request: HttpRequest) -> HttpResponseBase:
    """allauth's page for who never had a password. There it asks nobody who they are."""
    try:
        response: HttpResponseBase = _set_password(request)
    except ReauthenticationRequired:
        # Not as everywhere: that would keep the posted password in the session.
        asked = urlencode({"next": request.path})
        return redirect(f"{reverse('account_reauthenticate')}?{asked}")
    return response
