from datetime import UTC, datetime

import pytest
from django.core.mail import EmailMultiAlternatives, get_connection
from django.urls import NoReverseMatch, include, path, reverse

from marketplace_saas import outbox, urls

# What urls.py has with DEBUG on.
urlpatterns = [*urls.urlpatterns, path("outbox/", include(outbox.urlpatterns))]
development = pytest.mark.urls("tests.test_outbox")


@pytest.fixture
def folder(settings, tmp_path):
    settings.EMAIL_FILE_PATH = tmp_path / "mail"
    return settings.EMAIL_FILE_PATH


@pytest.fixture
def send(folder):
    def one_file(*letters):
        with get_connection("django.core.mail.backends.filebased.EmailBackend", file_path=folder) as backend:
            for letter in letters:
                backend.send_messages([letter])

    return one_file


def letter(subject="Your code", text="ABC-DEF", html="", to="ada@acme.example"):
    message = EmailMultiAlternatives(subject, text, "noreply@acme.example", [to])
    if html:
        message.attach_alternative(html, "text/html")
    return message


def test_production_has_no_outbox(client, db):
    with pytest.raises(NoReverseMatch):
        reverse("outbox")
    assert client.get("/outbox/").status_code == 404


@development
def test_an_outbox_without_mail_says_so(client, db, folder):
    assert "No mail yet" in client.get("/outbox/").content.decode()


@development
def test_every_mail_is_listed_newest_first_also_when_a_file_holds_several(client, db, send):
    send(letter("First"), letter("Second", to="bob@acme.example"))
    send(letter("Third · Größe"))

    response = client.get("/outbox/")

    assert [mail.subject for mail in response.context["mails"]] == ["Third · Größe", "Second", "First"]
    assert "bob@acme.example" in response.content.decode()


@development
def test_a_mail_is_shown_as_text_and_its_html_in_a_frame(client, db, send):
    send(letter(text="Your code:\n\nABC-DEF\n\n<b>plain</b>", html="<script>alert(1)</script><p>Hello</p>"))
    [mail] = client.get("/outbox/").context["mails"]

    response = client.get(f"/outbox/{mail.name}/")
    page = response.content.decode()

    assert "ABC-DEF" in page
    assert "&lt;b&gt;plain&lt;/b&gt;" in page
    assert "<script>" not in page
    assert f'<iframe class="mail" src="/outbox/{mail.name}/html/" sandbox ' in page
    assert "frame-src 'self'" in response["Content-Security-Policy"]
    assert mail.sent_at.tzinfo is not None


@development
def test_the_html_of_a_mail_is_shown_and_its_scripts_are_not_run(client, db, send):
    send(letter(html="<script>alert(1)</script><p style='color:red'>Hello</p>"), letter())
    without, mail = client.get("/outbox/").context["mails"]

    response = client.get(f"/outbox/{mail.name}/html/")

    assert "<p style='color:red'>Hello</p>" in response.content.decode()
    assert "default-src 'none'" in response["Content-Security-Policy"]
    assert "script" not in response["Content-Security-Policy"]
    assert response["X-Frame-Options"] == "SAMEORIGIN"
    assert client.get(f"/outbox/{without.name}/html/").status_code == 404
    assert "<iframe" not in client.get(f"/outbox/{without.name}/").content.decode()


@development
def test_only_mail_can_be_read(client, db, send, folder):
    send(letter())
    (folder.parent / "secret-0.log").write_text("Subject: secret\n\nsecret\n" + "-" * 79 + "\n")

    for name in (
        "../secret-0",
        "..%2Fsecret-0",
        "%2e%2e%2fsecret-0-0",
        "secret-0",
        "secret-0-0",
        "/etc/passwd",
        "0",
    ):
        assert client.get(f"/outbox/{name}/").status_code == 404
        assert client.get(f"/outbox/{name}/html/").status_code == 404


@development
def test_a_mail_without_headers_is_shown_all_the_same(client, db, folder):
    folder.mkdir()
    (folder / "20260101-000000-1.log").write_bytes(b"\nno headers, \xff no charset\n" + b"-" * 79 + b"\n")

    [mail] = client.get("/outbox/").context["mails"]

    assert mail.subject == ""
    assert mail.sent_at <= datetime.now(UTC)
    assert "(no subject)" in client.get(f"/outbox/{mail.name}/").content.decode()


def test_the_time_of_a_mail_is_utc(folder, send):
    send(letter())

    [mail] = outbox._newest_first()

    assert abs((datetime.now(UTC) - mail.sent_at).total_seconds()) < 120
