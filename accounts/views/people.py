"""Where a person is led, and in which language."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.i18n import set_language

from accounts.adapter import get_adapter
from accounts.models import Organization, User
from accounts.preferences import is_offered


def language(request: HttpRequest) -> HttpResponse:
    """The language switch at the foot of every page: for this browser, and for who is signed in."""
    response = set_language(request)
    chosen = request.POST.get("language", "")
    if request.method == "POST" and isinstance(request.user, User) and is_offered(chosen):
        request.user.language = chosen
        request.user.save(update_fields=["language"])
    return response


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Where sign-in leads: to what is waiting for this person, else to their organization."""
    user = request.user
    assert isinstance(user, User)
    waiting = get_adapter().after_sign_in(request, user)
    if waiting:
        return redirect(waiting)
    found = Organization.objects.of(user)[:2]
    return redirect(found[0]) if len(found) == 1 else redirect("accounts:organizations")
