"""Staff see every buyer's data: in production a password alone does not open the console."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authenticator_added
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.translation import gettext as _

from accounts.models import User

View = TypeVar("View", bound=Callable[..., HttpResponseBase])

# In the session: the page of the console that waits for the second factor.
_WANTED = "console_page_wanted"


def required(view: View) -> View:
    """Lead staff without a second factor to where they set one up, and remember where they were going."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        assert isinstance(request.user, User)
        if settings.DEBUG or is_mfa_enabled(request.user):
            return view(request, *args, **kwargs)
        if request.method == "GET" and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate":
            request.session[_WANTED] = request.get_full_path()
            messages.warning(
                request,
                _(
                    "Operators need a second factor. Set one up here: then a link leads you back to where "
                    "you were going."
                ),
            )
        return redirect("mfa_index")

    return cast(View, guarded)


@receiver(authenticator_added)
def _lead_back(request: HttpRequest, authenticator: Authenticator, **kwargs: Any) -> None:
    """By a link, not at once: the next page shows the recovery codes, once."""
    if authenticator.type == Authenticator.Type.RECOVERY_CODES:
        return
    wanted = request.session.pop(_WANTED, None)
    if wanted is not None:
        text = _('Your second factor is set up. <a href="{url}">Go on to the console</a>.')
        messages.success(request, format_html(text, url=wanted))
