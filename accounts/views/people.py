"""Where a person is led, and what they say about themselves."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.views.i18n import set_language

from accounts import invitation_links, preferences
from accounts.adapter import get_adapter
from accounts.forms import ProfileForm
from accounts.models import Organization, User


def language(request: HttpRequest) -> HttpResponse:
    """The language switch at the foot of every page: for this browser, and for who is signed in."""
    response = set_language(request)
    chosen = request.POST.get("language", "")
    if request.method == "POST" and isinstance(request.user, User) and preferences.is_offered(chosen):
        request.user.language = chosen
        request.user.save(update_fields=["language"])
    return response


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Where sign-in leads: to what is waiting for this person, else to their organization."""
    user = request.user
    assert isinstance(user, User)
    waiting = invitation_links.waiting_for(request, user, now=timezone.now())
    waiting = waiting or get_adapter().after_sign_in(request, user)
    if waiting:
        return redirect(waiting)
    found = Organization.objects.of(user)[:2]
    return redirect(found[0]) if len(found) == 1 else redirect("accounts:organizations")


@login_required
def profile(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)
    form = ProfileForm(request.POST or None, user=user)
    if not form.is_valid():
        return render(request, "accounts/profile.html", {"form": form})
    preferences.choose(user, **form.cleaned_data)
    with translation.override(user.language or translation.get_language_from_request(request)):
        messages.success(request, _("Your profile is saved."))
    response = redirect("accounts:profile")
    # The switch at the foot of the page has set this cookie once: with it, "as my browser" would be a lie.
    response.delete_cookie(settings.LANGUAGE_COOKIE_NAME, samesite="Lax")
    return response
