import pytest
from django.db import IntegrityError

from accounts import organizations
from accounts.models import Membership, Organization


def test_whoever_creates_an_organization_owns_it(acme, acme_admin):
    membership = acme.memberships.get()

    assert membership.user == acme_admin
    assert membership.role == Membership.Role.OWNER
    assert membership.is_administrator
    assert acme.slug == "acme"


def test_two_organizations_of_the_same_name_get_two_addresses(acme, outsider):
    other = organizations.create(name="Acme", owner=outsider)

    assert other.name == "Acme"
    assert other.slug.startswith("acme-")


@pytest.mark.parametrize("word", ["new", "Admin", "settings"])
def test_a_name_that_reads_like_a_page_of_ours_gets_another_address(acme_admin, word):
    organization = organizations.create(name=word, owner=acme_admin)

    assert organization.slug.startswith(f"{word.lower()}-")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Größe & Söhne", "groe-sohne"),
        ("株式会社", "team"),
        ("🚀🚀", "team"),
        ("A" * 120, "a" * 50),
        ("- -", "team"),
    ],
)
def test_every_name_gets_an_address(acme_admin, name, slug):
    organization = organizations.create(name=name, owner=acme_admin)

    assert organization.slug == slug
    assert organization.name == name


def test_an_error_that_another_address_would_not_cure_is_raised(acme_admin):
    with pytest.raises(IntegrityError):
        organizations.create(name=None, owner=acme_admin)

    assert not Organization.objects.exclude(name="Acme").exists()
