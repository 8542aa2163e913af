"""In which language and time zone a page speaks."""

import re
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from django.template import Context, Template
from django.test import Client
from django.utils import timezone, translation

from accounts.preferences import PreferencesMiddleware, language_of, zone_of
from tests.accounts.steps import ELSEWHERE, mailed_code, sign_up

AT = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)


@pytest.fixture
def seen(rf):
    """What a page sees that ``user`` opens in a browser that asks for English."""

    def look(user) -> tuple[str, str]:
        found = []

        def page(request):
            found.append((translation.get_language(), timezone.get_current_timezone_name()))
            return HttpResponse()

        request = rf.get("/")
        request.user = user
        with translation.override("en"):
            PreferencesMiddleware(page)(request)
        return found[0]

    return look


def test_a_page_speaks_as_the_person_chose(seen, acme_member):
    acme_member.language, acme_member.time_zone = "ko", "Asia/Seoul"

    assert seen(acme_member) == ("ko", "Asia/Seoul")
    assert timezone.get_current_timezone_name() == "UTC", "The next request starts afresh."


def test_without_a_choice_it_is_the_browser_s_language_in_utc(seen, acme_member):
    assert seen(acme_member) == ("en", "UTC")
    assert seen(AnonymousUser()) == ("en", "UTC")


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "../etc/passwd", "/etc/localtime", "x" * 63, "Asia", "\x00"]
)
def test_a_zone_that_is_none_is_utc(seen, acme_member, zone):
    acme_member.time_zone = zone

    assert seen(acme_member) == ("en", "UTC")
    assert str(zone_of(acme_member)) == "UTC"


def test_a_language_that_the_site_has_dropped_is_the_browser_s(seen, acme_member, settings):
    acme_member.language = "fr"

    assert seen(acme_member) == ("en", "UTC")
    assert language_of(acme_member) == settings.LANGUAGE_CODE
    acme_member.language = "ko"
    assert language_of(acme_member) == "ko"


def test_a_time_is_shown_in_the_reader_s_zone_and_says_which(acme_member):
    template = Template('{% include "components/time.html" with at=at only %}')

    acme_member.time_zone = "Asia/Seoul"
    with timezone.override(zone_of(acme_member)), translation.override("en"):
        shown = template.render(Context({"at": AT}))

    assert 'datetime="2026-07-01T22:30:00+00:00"' in shown
    assert re.search(r">[^<]*July[^<]*\b0?7:30[^<]* KST<", shown)


@pytest.mark.django_db
def test_the_switch_works_before_sign_in(client):
    assert (
        client.post("/language/", {"language": "ko", "next": "/accounts/login/"})["Location"]
        == "/accounts/login/"
    )

    assert '<html lang="ko"' in client.get("/accounts/login/").content.decode()
    cookie = client.cookies["django_language"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


def test_the_switch_is_remembered_for_who_is_signed_in(client, acme_member):
    client.force_login(acme_member)

    client.post("/language/", {"language": "ko", "next": "/"})

    acme_member.refresh_from_db()
    assert acme_member.language == "ko"
    client.cookies.pop("django_language")
    assert '<html lang="ko"' in client.get("/").content.decode(), "In another browser, too."


@pytest.mark.parametrize("wanted", ["xx", "", "../../x", "k" * 10_000, "<b>"])
def test_a_language_that_is_not_offered_changes_nothing(client, acme_member, wanted):
    client.force_login(acme_member)

    assert client.post("/language/", {"language": wanted, "next": "/"}).status_code == 302

    acme_member.refresh_from_db()
    assert acme_member.language == ""
    assert '<html lang="en"' in client.get("/").content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_the_switch_leads_to_no_other_site(client, elsewhere):
    response = client.post(
        "/language/", {"language": "ko", "next": elsewhere}, headers={"referer": elsewhere}
    )

    assert response["Location"] == "/"


def test_looking_at_the_switch_changes_nothing(client, acme_member):
    client.force_login(acme_member)

    response = client.get("/language/?language=ko&next=/")

    acme_member.refresh_from_db()
    assert response.status_code == 302
    assert acme_member.language == ""
    assert "django_language" not in client.cookies


@pytest.mark.django_db
def test_the_switch_takes_its_token():
    assert Client(enforce_csrf_checks=True).post("/language/", {"language": "ko"}).status_code == 403


@pytest.mark.django_db
def test_who_signs_up_in_korean_stays_in_korean(client, django_user_model):
    client.post("/language/", {"language": "ko"})
    sign_up(client, "new@acme.example")
    client.post("/accounts/confirm-email/", {"code": mailed_code()})

    assert django_user_model.objects.get().language == "ko"
