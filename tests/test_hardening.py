"""Every URL of the site as everybody meets it: headers, cookies, no server error; and what strangers try."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings as live_settings
from django.contrib.auth.models import Group
from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client
from django.urls import NoReverseMatch, URLPattern, get_resolver, reverse
from django.urls.resolvers import RegexPattern, RoutePattern, URLResolver

from accounts.models import Membership, Organization
from billing.admin.site import admin_site
from billing.views.registering import LARGEST_ARRIVAL
from tests.test_production import ENVIRONMENT, run

REGISTER = "/marketplace/register/"
# Only these may be posted to without our token: AWS's site and AWS SNS cannot know it.
WITHOUT_CSRF_TOKEN = {"billing:register", "billing:sns"}
# Answers 503 when something is amiss, as a machine is meant to read it.
MAY_BE_UNWELL = {"status", "readyz"}
SAMPLES: dict[str, str] = {
    "slug": "acme", "pk": "1", "object_id": "1", "content_type_id": "1", "app_label": "billing",
    "token": "no-such-token", "key": "abc-def", "uidb36": "1", "url": "no/such/page", "provider": "x",
}  # fmt: skip


@dataclass(frozen=True)
class Address:
    name: str
    url: str
    view: Any


def addresses(rows: dict[str, str]) -> list[Address]:
    return list(_walk(get_resolver(), "", "/", rows))


def _walk(resolver: URLResolver, namespace: str, prefix: str, rows: dict[str, str]) -> Iterator[Address]:
    for pattern in resolver.url_patterns:
        path = prefix + _written(pattern.pattern)
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from _walk(pattern, inner, path, rows)
        else:
            yield _address(pattern, namespace, path, rows)


def _written(pattern: RoutePattern | RegexPattern) -> str:
    if isinstance(pattern, RoutePattern):
        return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: SAMPLES.get(found[1], "1"), str(pattern))
    text = re.sub(r"\(\?P<(\w+)>[^()]*\)", lambda found: SAMPLES.get(found[1], "1"), str(pattern))
    return text.strip("^$").replace("\\Z", "")


def _address(pattern: URLPattern, namespace: str, path: str, rows: dict[str, str]) -> Address:
    name = f"{namespace}{pattern.name or ''}"
    if pattern.name is None:
        return Address(name or path, path, pattern.callback)
    values = {key: SAMPLES.get(key, "1") for key in pattern.pattern.regex.groupindex}
    for key in ("pk", "object_id"):
        if key in values and name in rows:
            values[key] = rows[name]
    try:
        return Address(name, reverse(name, kwargs=_all(path, values)), pattern.callback)
    except NoReverseMatch:
        return Address(name, path, pattern.callback)


def _all(path: str, values: dict[str, str]) -> dict[str, str]:
    """What the patterns around this one want too."""
    return {"slug": "acme", **values} if path.startswith("/o/acme/") else values


@pytest.fixture
def https(settings: Any) -> None:
    """The flags that settings.py sets where SITE_URL is https://."""
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = settings.LANGUAGE_COOKIE_SECURE = True
    settings.SECURE_HSTS_SECONDS = 31_536_000
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = True


@pytest.fixture
def everything(https, aws, purchase, acme, acme_admin, acme_member, operator):
    """The site with something on every page; its addresses, with rows that exist."""
    assert acme.slug == "acme"
    Membership.objects.create(organization=acme, user=operator, role=Membership.Role.MEMBER)
    purchase(quantities={"included_pages": 5})
    Group.objects.get_or_create(name="Support")
    rows = {"accounts:member": acme_member.memberships.get().pk, "accounts:remove": acme_member.pk}
    for model in apps.get_models():
        if admin_site.is_registered(model):
            first = model._default_manager.first()
            for kind in ("change", "history", "delete"):
                name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{kind}"
                rows[name] = str(first.pk) if first else "1"
    return addresses(rows)


@pytest.fixture
def visitor(request, acme_admin, acme_member, operator):
    """A function that gives a browser of the role, anew."""
    people = {"anonymous": None, "member": acme_member, "owner": acme_admin, "staff": operator}

    def browser(role: str, **options: Any) -> Client:
        client = Client(raise_request_exception=False, **options)
        if people[role] is not None:
            client.force_login(people[role])
        return client

    return browser


def policy_of(response: Any) -> dict[str, list[str]]:
    directives = response["Content-Security-Policy"].split(";")
    return {name: values for name, *values in (directive.split() for directive in directives)}


def weaknesses(response: Any, address: Address) -> Iterator[str]:
    """What is wrong with an answer, in words."""
    if response.status_code >= 500 and not (response.status_code == 503 and address.name in MAY_BE_UNWELL):
        yield f"answers {response.status_code}"
    expected = {
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload",
        "Cross-Origin-Opener-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    for header, value in expected.items():
        if response.get(header) != value:
            yield f"{header} is {response.get(header)}"
    # An invitation's page, whose address is its secret, says so itself.
    if response.get("Referrer-Policy") not in ("same-origin", "strict-origin"):
        yield f"Referrer-Policy is {response.get('Referrer-Policy')}"
    if "camera=()" not in response.get("Permissions-Policy", ""):
        yield "no Permissions-Policy"
    if "Content-Security-Policy" in response:
        yield from _policy_weaknesses(policy_of(response), is_admin=address.url.startswith("/admin/"))
    else:
        yield "no Content-Security-Policy"
    for name, cookie in response.cookies.items():
        if cookie["max-age"] == 0:
            continue  # taken back: there is nothing in it
        if not (cookie["secure"] and cookie["httponly"] and cookie["samesite"] in ("Lax", "Strict")):
            yield f"cookie {name}: {cookie.OutputString()}"
    is_private = address.url.startswith(("/o/acme/", "/admin/")) and response.status_code == 200
    if is_private and "cookie" not in response.get("Vary", "").lower():
        yield "a shared cache could hand it to others"


def _policy_weaknesses(policy: dict[str, list[str]], *, is_admin: bool) -> Iterator[str]:
    expected = {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    if is_admin:
        # What unfold cannot do without, and nothing else. Refusals on the way there may be stricter.
        for directive, allowed in (("script-src", "'unsafe-eval'"), ("style-src", "'unsafe-inline'")):
            policy[directive] = [source for source in policy[directive] if source != allowed]
    if policy != expected:
        yield f"Content-Security-Policy: {policy}"


# --- The crawl


def test_the_walk_knows_every_page(everything):
    names = {address.name for address in everything}
    assert {
        "home", "account_login", "accounts:members", "billing:register", "billing:usage",
        "admin:index", "admin:billing_agreement_change", "admin:accounts_user_change", "healthz", "status",
    } <= names  # fmt: skip
    assert len(everything) > 150
    assert all(re.fullmatch(r"/[\w/.@:+-]*", address.url) for address in everything), [
        address.url for address in everything if not re.fullmatch(r"/[\w/.@:+-]*", address.url)
    ]


@pytest.mark.parametrize("role", ["anonymous", "member", "owner", "staff"])
def test_every_page_is_hardened_whoever_looks(everything, visitor, role):
    client = visitor(role)
    found = []
    for address in everything:
        if address.name == "account_logout":
            continue
        with transaction.atomic():
            response = client.get(address.url, secure=True)
            found += [f"{address.url}: {weakness}" for weakness in weaknesses(response, address)]
            transaction.set_rollback(True)
    assert found == []


@pytest.mark.parametrize("role", ["anonymous", "member", "owner", "staff"])
def test_an_empty_form_breaks_no_page_and_its_answer_is_hardened(everything, visitor, role):
    client = visitor(role)
    found = []
    for address in everything:
        with transaction.atomic():
            if address.name in ("account_logout", "usersessions_list"):
                continue  # they end the session that the rest needs
            response = client.post(address.url, secure=True)
            found += [f"POST {address.url}: {weakness}" for weakness in weaknesses(response, address)]
            transaction.set_rollback(True)
    assert found == []


def test_no_form_is_taken_without_its_token_but_from_aws(everything, visitor):
    exempt = {address.name for address in everything if getattr(address.view, "csrf_exempt", False)}
    assert exempt == WITHOUT_CSRF_TOKEN
    client = visitor("owner", enforce_csrf_checks=True)
    open_ = {
        address.name
        for address in everything
        if client.post(address.url, secure=True).status_code not in (403, 405)
    }
    # The SNS endpoint is off, machines' addresses take no POST, and a probe is answered before anything.
    assert open_ <= WITHOUT_CSRF_TOKEN, open_


@pytest.mark.parametrize("url", ["/no/such/page/", "/o/acme", "/static/site.css", "/static/no-such.css"])
def test_what_is_not_there_and_what_never_changes_is_hardened_too(https, db, client, url):
    response = client.get(url, secure=True)
    assert list(weaknesses(response, Address("", url, None))) == []


def test_pages_that_only_a_laptop_has_are_not_there(everything):
    assert not [address for address in everything if address.url.startswith(("/outbox/", "/mails/"))]


# --- Host names


@pytest.mark.parametrize(
    "host",
    ["evil.example", "testserver.evil.example", "testserver@evil.example", "127.0.0.1:80:80", "a\tb", ""],
)
def test_another_host_name_is_refused(client, db, https, host):
    response = client.get("/accounts/password/reset/", headers={"host": host}, secure=True)
    assert response.status_code == 400
    assert "evil.example" not in response.content.decode()
    assert list(weaknesses(response, Address("", "/", None))) == []


def test_a_host_name_that_a_proxy_is_said_to_forward_is_not_believed(client, acme_admin):
    headers = {"x-forwarded-host": "evil.example", "forwarded": "host=evil.example", "x-host": "evil.example"}
    client.post("/accounts/password/reset/", {"email": acme_admin.email}, headers=headers)
    page = client.get("/accounts/login/", headers=headers).content.decode()
    [sent] = mail.outbox
    texts = [sent.subject, sent.body, *(str(content) for content, _ in sent.alternatives)]
    assert "evil.example" not in page + "".join(texts)


def test_addresses_in_mails_are_the_sites_own_whatever_host_was_asked(client, acme, acme_admin, settings):
    settings.ALLOWED_HOSTS = ["testserver", "internal.balancer.example"]
    client.force_login(acme_admin)
    client.post(
        "/o/acme/invite/",
        {"emails": "new@acme.example", "email": "new@acme.example", "role": "member"},
        headers={"host": "internal.balancer.example"},
    )
    for message in mail.outbox:
        assert "internal.balancer.example" not in message.body


# --- Sizes


@pytest.mark.parametrize(
    ("size", "status"), [(LARGEST_ARRIVAL - 200, 400), (LARGEST_ARRIVAL + 1, 400), (50_000_000, 400)]
)
def test_an_arrival_is_small(aws, client, size, status):
    response = client.post(
        REGISTER, "x-amzn-marketplace-token=" + "a" * size, content_type="application/x-www-form-urlencoded"
    )
    assert response.status_code == status
    assert bool(aws.control.requests("ResolveCustomer")) is (size < LARGEST_ARRIVAL)


def test_an_arrival_brings_no_files(aws, client):
    file = SimpleUploadedFile("x", b"x" * LARGEST_ARRIVAL)
    response = client.post(REGISTER, {"x-amzn-marketplace-token": "abc", "file": file})
    assert response.status_code == 400
    assert aws.control.requests("ResolveCustomer") == []


@pytest.mark.parametrize(
    "url", ["/accounts/login/", "/accounts/signup/", "/language/", "/marketplace/claim/"]
)
def test_a_form_of_more_than_a_megabyte_is_not_read(client, db, url):
    response = client.post(url, {"file": SimpleUploadedFile("x", b"x" * 1_100_000)})
    assert response.status_code == 400
    assert "Traceback" not in response.content.decode()


@pytest.mark.parametrize("role", ["anonymous", "member"])
def test_only_operators_upload_more(visitor, role):
    response = visitor(role).post("/admin/", {"file": SimpleUploadedFile("x", b"x" * 1_100_000)})
    assert response.status_code == 400


def test_operators_upload_awss_usage_reports(visitor):
    response = visitor("staff").post("/admin/", {"file": SimpleUploadedFile("x", b"x" * 1_100_000)})
    assert response.status_code != 400
    too_much = live_settings.OPERATOR_UPLOAD_MAX_SIZE + 1
    response = visitor("staff").post("/admin/", CONTENT_LENGTH=str(too_much))
    assert response.status_code == 400


@pytest.mark.parametrize("length", ["-1", "abc", "1e9", "9" * 40, "٣"])
def test_a_length_that_is_none_is_refused(client, db, length):
    assert client.post("/accounts/login/", CONTENT_LENGTH=length).status_code == 400


# --- Behind a proxy


def test_https_is_believed_of_our_own_proxy_only():
    program = "from django.conf import settings; print(settings.SECURE_PROXY_SSL_HEADER)"
    more = {"DJANGO_SETTINGS_MODULE": "marketplace_saas.settings"}
    alone = run("-c", program, **ENVIRONMENT, **more)
    behind = run("-c", program, **ENVIRONMENT, **more, TRUSTED_PROXY_COUNT="1")
    assert (alone.stdout.strip(), behind.stdout.strip()) == (
        "None",
        "('HTTP_X_FORWARDED_PROTO', 'https')",
    ), alone.stderr + behind.stderr


@pytest.mark.parametrize(
    ("proxies", "forwarded", "limited"),
    [
        (0, "{made_up}", True),
        (1, "{made_up}, 203.0.113.7", True),
        (1, "203.0.113.7, {made_up}", False),
        (2, "{made_up}, 203.0.113.7, 10.0.0.1", True),
        (2, "203.0.113.9, {made_up}, 10.0.0.1", False),
    ],
)
def test_rate_limits_count_the_address_that_our_own_proxies_saw(
    client, db, settings, proxies, forwarded, limited
):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    for place in range(31):
        response = client.post(
            REGISTER, headers={"x-forwarded-for": forwarded.format(made_up=f"198.51.100.{place}")}
        )
    assert (response.status_code == 429) is limited


def test_passkeys_are_the_one_thing_that_pages_may_use():
    allowed = {feature for feature, who in live_settings.PERMISSIONS_POLICY.items() if who != "()"}
    assert allowed == {"publickey-credentials-create", "publickey-credentials-get"}


def test_an_organization_that_does_not_exist_and_one_that_is_not_mine_look_the_same(
    everything, client, outsider, acme
):
    assert Organization.objects.filter(slug="acme").exists()
    client.force_login(outsider)
    seen = {
        (address.name, method): (
            getattr(client, method)(address.url, secure=True).status_code,
            getattr(client, method)(address.url.replace("/o/acme/", "/o/nobody/"), secure=True).status_code,
        )
        for address in everything
        if address.url.startswith("/o/acme/")
        for method in ("get", "post")
    }
    assert len(seen) > 20
    told = {key: codes for key, codes in seen.items() if codes[0] != codes[1]}
    assert told == {}
    # 405 says of the method only what the address says already.
    assert {code for codes in seen.values() for code in codes} <= {404, 405}
