"""What a person says about themselves."""

import pytest
from django.utils import translation

from accounts.names import plain
from accounts.preferences import zones
from accounts.templatetags.browsers import browser

PROFILE = "/accounts/profile/"


def send(client, **fields):
    return client.post(PROFILE, {"name": "", "language": "", "time_zone": "", **fields})


def test_a_profile_is_kept(client, acme_member):
    client.force_login(acme_member)

    response = send(client, name="  Bob Martin ", language="ko", time_zone="America/Argentina/Buenos_Aires")

    acme_member.refresh_from_db()
    assert response["Location"] == PROFILE
    assert acme_member.name == "Bob Martin"
    assert acme_member.language == "ko"
    assert acme_member.time_zone == "America/Argentina/Buenos_Aires"
    page = client.get(PROFILE).content.decode()
    assert '<html lang="ko"' in page
    assert '<option value="America/Argentina/Buenos_Aires" selected>Argentina, Buenos Aires</option>' in page


@pytest.mark.parametrize(
    "name", ["밥", "بوب مارتن", "👩‍👩‍👧 Bob", "<script>alert(1)</script>", "x" * 150, ""]
)
def test_a_name_is_any_letters_and_never_markup(client, acme_member, name):
    client.force_login(acme_member)

    assert send(client, name=name).status_code == 302

    acme_member.refresh_from_db()
    assert acme_member.name == name
    assert "<script>alert" not in client.get(PROFILE).content.decode()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "x" * 151, "Use at most 150 characters."),
        ("name", "x" * 10_000, "Use at most 150 characters."),
        ("name", "Bob\nBcc: x@evil.example", "without line breaks"),
        ("name", "Bob\u2028", None),
        ("name", "Bob\x1b[2J", "control characters"),
        ("name", "\u202eBob", "control characters"),
        ("name", "Security: https://evil.example/", "without the address of a web page"),
        ("name", "Bob\x00", "ull characters are not allowed"),
        ("language", "xx", "Choose one of the languages in the list."),
        ("language", "en\x00", "Choose one of the languages"),
        ("time_zone", "Mars/Olympus", "Choose one of the time zones in the list."),
        ("time_zone", "../../etc/passwd", "Choose one of the time zones in the list."),
        ("time_zone", "localtime", "Choose one of the time zones in the list."),
        ("time_zone", "<b>", "Choose one of the time zones in the list."),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence_at_its_field(client, acme_member, field, value, said):
    client.force_login(acme_member)

    response = send(client, **{field: value})

    if said is None:  # white space at an end is left out
        assert response.status_code == 302
        return
    page = response.content.decode()
    assert response.status_code == 200
    assert said in page
    assert 'aria-invalid="true"' in page
    acme_member.refresh_from_db()
    assert acme_member.name == "Bob"
    assert acme_member.language == acme_member.time_zone == ""


def test_saving_twice_changes_nothing_more(client, acme_member):
    client.force_login(acme_member)

    assert [send(client, name="Rob").status_code for _ in range(2)] == [302, 302]


def test_nobody_else_s_profile_can_be_named(client, acme_member, outsider):
    client.force_login(outsider)

    client.post(PROFILE, {"name": "Evil", "user": acme_member.pk, "id": acme_member.pk, "is_staff": "on"})

    acme_member.refresh_from_db()
    outsider.refresh_from_db()
    assert (acme_member.name, outsider.name) == ("Bob", "Evil")
    assert not outsider.is_staff


@pytest.mark.django_db
def test_a_stranger_signs_in_first(client):
    assert client.get(PROFILE)["Location"] == f"/accounts/login/?next={PROFILE}"
    assert send(client)["Location"].startswith("/accounts/login/")


def test_as_my_browser_means_the_browser_again(client, acme_member):
    client.force_login(acme_member)
    client.post("/language/", {"language": "ko"})

    send(client, language="")

    assert '<html lang="en"' in client.get(PROFILE, headers={"accept-language": "en"}).content.decode()


def test_a_zone_that_has_gone_reads_as_utc(client, acme_member):
    acme_member.time_zone = "Mars/Olympus"
    acme_member.save()
    client.force_login(acme_member)

    choice = client.get(PROFILE).content.decode().partition('name="time_zone"')[2].partition("</select>")[0]
    assert "selected" not in choice, "So the first in the list is."
    assert choice.index('<option value="">UTC</option>') < choice.index("<optgroup")


def test_the_list_has_every_zone_by_region():
    groups = {str(region): dict(places) for region, places in zones()}

    assert groups["Asia"]["Asia/Seoul"] == "Seoul"
    assert groups["America"]["America/New_York"] == "New York"
    assert groups["Other"]["UTC"] == "UTC"
    assert sum(len(places) for places in groups.values()) > 500


def test_the_page_takes_few_queries(client, acme_member, django_assert_max_num_queries):
    client.force_login(acme_member)

    with django_assert_max_num_queries(10):
        client.get(PROFILE)


def test_the_message_speaks_the_language_just_chosen(client, acme_member):
    client.force_login(acme_member)

    send(client, language="ko")

    with translation.override("ko"):
        said = str(translation.gettext("Your profile is saved."))
    assert said in client.get(PROFILE).content.decode()


@pytest.mark.parametrize(
    ("given", "kept"),
    [("Ada\nLovelace", "Ada Lovelace"), (" 👩‍👧  Ada ", "👩‍👧 Ada"), ("x" * 200, "x" * 150)],
)
def test_a_name_from_elsewhere_is_made_plain(given, kept):
    assert plain(given, length=150) == kept


@pytest.mark.parametrize(
    ("said", "called"),
    [
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0 "
            "Safari/537.36 Edg/128.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/17.5 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Linux; Android 14) Chrome/128.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.5.0", "curl/8.5.0"),
        ("x" * 200, "x" * 80),
        ("", "Unknown browser"),
    ],
)
def test_a_session_is_called_by_its_browser(said, called):
    assert browser(said) == called
