import pytest
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse

from accounts.access import role_required
from accounts.adapter import AccountsAdapter, Notice
from accounts.models import Membership
from tests.test_pages import assert_clean

Role = Membership.Role


def test_a_member_sees_the_organization(client, acme, acme_member):
    client.force_login(acme_member)

    response = client.get("/o/acme/")

    assert response.status_code == 200
    assert "ada@acme.example" in response.content.decode()


@pytest.mark.parametrize("method", ["get", "post"])
def test_an_outsider_cannot_tell_that_the_organization_exists(client, acme, outsider, method):
    client.force_login(outsider)

    assert getattr(client, method)("/o/acme/").status_code == 404
    assert getattr(client, method)("/o/never-existed/").status_code == 404


@pytest.mark.parametrize("slug", ["acme", "never-existed"])
def test_an_anonymous_visitor_is_sent_to_sign_in_and_back(client, acme, slug):
    response = client.get(f"/o/{slug}/")

    assert response.status_code == 302
    assert response["Location"] == f"/accounts/login/?next=/o/{slug}/"


def test_a_former_member_is_an_outsider(client, acme, acme_member):
    client.force_login(acme_member)
    acme.memberships.filter(user=acme_member).delete()

    assert client.get("/o/acme/").status_code == 404


def test_a_role_that_is_not_named_is_refused(rf):
    view = role_required(Role.OWNER, Role.ADMIN)(lambda request: HttpResponse("in"))
    request = rf.get("/")

    request.membership = Membership(role=Role.ADMIN)
    assert view(request).content == b"in"

    request.membership = Membership(role=Role.MEMBER)
    with pytest.raises(PermissionDenied):
        view(request)


def test_the_organizations_page_stays_within_ten_queries(
    client, acme, acme_admin, make_user, django_assert_max_num_queries
):
    Membership.objects.bulk_create(
        Membership(organization=acme, user=make_user(f"m{n}@acme.example"), role=Role.MEMBER)
        for n in range(60)
    )
    client.force_login(acme_admin)

    with django_assert_max_num_queries(10):
        assert client.get("/o/acme/").status_code == 200


class TwoNotices(AccountsAdapter):
    def notices(self, membership):
        return [
            Notice(
                f"{membership.user} is <late>.",
                "danger",
                url=f"/o/{membership.organization.slug}/pay/?a=1&b=2",
                action="Pay & go",
            ),
            Notice("All is well."),
        ]


def test_notices_stand_on_top_of_an_organizations_page(client, settings, acme, acme_member):
    settings.ACCOUNTS_ADAPTER = "tests.accounts.test_access.TwoNotices"
    client.force_login(acme_member)

    page = client.get("/o/acme/").content.decode()

    assert_clean(page)
    first, second = page.index('<div class="notice danger">'), page.index('<div class="notice ">')
    assert page.index('<main id="main"') < first < second < page.index("<h1")
    assert "<p>Bob is &lt;late&gt;.</p>" in page
    assert '<a href="/o/acme/pay/?a=1&amp;b=2">Pay &amp; go</a>' in page
    assert page.count("/o/acme/pay/") == 1, "A notice without an action has no link."


def test_without_notices_nothing_announces_them(client, acme, acme_member):
    client.force_login(acme_member)

    assert "About this workspace" not in client.get("/o/acme/").content.decode()
