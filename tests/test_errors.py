"""What a page says when something went wrong, and the name by which the request is found."""

from __future__ import annotations

import logging
import re

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from django.views import defaults

from marketplace_saas import request_id, views
from marketplace_saas.request_id import HEADER, RequestIdFilter, RequestIdMiddleware
from marketplace_saas.urls import urlpatterns as site_urlpatterns
from tests.test_pages import assert_clean


def broken(request):
    raise RuntimeError("SecretDetail of the database")


def forbidden(request):
    raise PermissionDenied("SecretDetail of the rule")


def suspicious(request):
    raise SuspiciousOperation("SecretDetail of the attack")


def logs(request):
    logging.getLogger("product").warning("Something odd")
    return HttpResponse()


urlpatterns = [
    *site_urlpatterns,
    path("broken/", broken),
    path("forbidden/", forbidden),
    path("suspicious/", suspicious),
    path("logs/", logs),
]
handler400 = views.bad_request
handler500 = views.server_error


@pytest.fixture
def careless(settings) -> Client:
    """A client that takes an error page for an answer, on a site where everything can go wrong."""
    settings.ROOT_URLCONF = __name__
    return Client(raise_request_exception=False)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "status"),
    [("/broken/", 500), ("/forbidden/", 403), ("/suspicious/", 400), ("/no/such/page/", 404)],
)
@pytest.mark.parametrize("language", ["en", "ko"])
def test_an_error_names_whom_to_ask_and_the_request_and_no_detail(
    careless, settings, address, status, language
):
    response = careless.get(address, headers={"accept-language": language})

    page = response.content.decode()
    assert response.status_code == status
    assert_clean(page)
    assert f'<html lang="{language}"' in page
    assert f'href="mailto:{settings.SUPPORT_EMAIL}"' in page
    assert f"<code>{response[HEADER]}</code>" in page
    assert "SecretDetail" not in page
    assert "Traceback" not in page
    assert "no/such/page" not in page.partition("<main")[2].partition("</main>")[0]
    assert '<meta name="color-scheme" content="light dark">' in page
    assert "script-src 'self'" in response["Content-Security-Policy"]


@pytest.mark.django_db
def test_a_host_that_is_not_ours_is_answered_without_a_user(careless):
    response = careless.get("/", headers={"host": "evil.example"})

    assert response.status_code == 400
    assert_clean(response.content.decode())
    assert "evil.example" not in response.content.decode()


@pytest.mark.django_db
def test_a_form_without_its_token_names_the_request(settings):
    response = Client(enforce_csrf_checks=True).post("/accounts/login/")

    assert response.status_code == 403
    assert response[HEADER] in response.content.decode()
    assert settings.SUPPORT_EMAIL in response.content.decode()


@pytest.mark.parametrize("view", [defaults.server_error, defaults.bad_request])
def test_the_pages_of_last_resort_need_no_context(rf, view):
    response = view(rf.get("/"), *([Exception("SecretDetail")] if view is defaults.bad_request else []))

    assert_clean(response.content.decode())
    assert "SecretDetail" not in response.content.decode()


def test_an_error_leads_members_to_their_workspace(client, acme_member):
    client.force_login(acme_member)

    page = client.get("/no/such/page/").content.decode()

    assert 'href="/home/" role="button"' in page


# --- The name of a request ---------------------------------------------------------------------------------


def answer(rf, view=lambda request: HttpResponse(), **headers):
    return RequestIdMiddleware(view)(rf.get("/", headers=headers))


def test_each_request_gets_a_name_of_its_own(rf):
    names = {answer(rf)[HEADER] for _ in range(50)}

    assert len(names) == 50
    assert all(re.fullmatch(r"[0-9a-f]{16}", name) for name in names)


def test_the_name_is_gone_with_the_request(rf):
    seen = []

    def view(request):
        seen.append(request_id.current())
        return HttpResponse()

    assert answer(rf, view)[HEADER] == seen[0]
    assert request_id.current() == "-"


def test_the_name_is_gone_after_an_exception_too(rf):
    with pytest.raises(RuntimeError):
        answer(rf, broken)

    assert request_id.current() == "-"


@pytest.mark.parametrize(("proxies", "believed"), [(0, False), (1, True)])
def test_a_name_is_taken_from_our_own_proxy_only(rf, settings, proxies, believed):
    settings.TRUSTED_PROXY_COUNT = proxies

    assert (answer(rf, **{"x-request-id": "edge-1234.abc"})[HEADER] == "edge-1234.abc") == believed


@pytest.mark.parametrize(
    "name", ["short", "x" * 65, "a b c d e f", "<script>1</script>", "abcdefgh\nX: y", "밥밥밥밥밥밥밥밥"]
)
def test_a_proxy_s_name_that_would_do_harm_is_replaced(rf, settings, name):
    settings.TRUSTED_PROXY_COUNT = 1
    request = rf.get("/")
    request.META["HTTP_X_REQUEST_ID"] = name

    assert re.fullmatch(r"[0-9a-f]{16}", RequestIdMiddleware(lambda request: HttpResponse())(request)[HEADER])


@pytest.mark.django_db
def test_each_line_of_the_log_carries_the_name(careless, caplog):
    caplog.handler.addFilter(RequestIdFilter())

    for address, said in [("/logs/", "Something odd"), ("/broken/", "Internal"), ("/no/such/", "Not Found")]:
        caplog.clear()
        response = careless.get(address)
        [record] = [record for record in caplog.records if said in record.getMessage()]
        assert record.request_id == response[HEADER], address


def test_outside_of_a_request_a_line_says_so():
    record = logging.LogRecord("x", logging.INFO, "", 1, "Job done", (), None)

    assert RequestIdFilter().filter(record)
    assert record.request_id == "-"


def test_the_log_of_the_site_is_written_with_it(settings):
    assert "{request_id}" in settings.LOGGING["formatters"]["line"]["format"]
    assert settings.LOGGING["handlers"]["console"]["filters"][0] == "request_id"
    assert settings.MIDDLEWARE[0] == "marketplace_saas.request_id.RequestIdMiddleware"
