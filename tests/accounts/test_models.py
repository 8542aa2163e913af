import pytest
from django.db import IntegrityError, transaction

from accounts.models import Membership, Organization, User


def refused(create) -> bool:
    try:
        with transaction.atomic():
            create()
    except IntegrityError:
        return True
    return False


def test_an_email_address_has_one_account_whatever_its_case(db):
    User.objects.create(email="ada@acme.example")

    assert refused(lambda: User.objects.create(email="Ada@ACME.example"))
    assert refused(lambda: User.objects.create(email="ada@acme.example"))


def test_create_user_keeps_the_address_in_lower_case(db):
    user = User.objects.create_user("  Ada@Acme.Example ", "secret")

    assert user.email == "ada@acme.example"
    assert user.check_password("secret")


def test_a_user_is_found_by_an_address_in_any_case(make_user):
    user = make_user("ada@acme.example")

    assert User.objects.get_by_natural_key("ADA@acme.example") == user


def test_a_user_needs_an_address(db):
    with pytest.raises(ValueError, match="e-mail"):
        User.objects.create_user("", "secret")


def test_a_superuser_is_staff(db):
    user = User.objects.create_superuser("root@acme.example", "secret")

    assert user.is_staff
    assert user.is_superuser


def test_a_user_is_shown_by_name_else_by_address(make_user):
    named, unnamed = make_user("eva@acme.example", name="Eva"), make_user("tom@acme.example")

    assert (str(named), named.get_short_name()) == ("Eva", "Eva")
    assert (str(unnamed), unnamed.get_short_name()) == ("tom@acme.example", "tom")


def test_a_person_is_once_in_an_organization(acme, acme_member):
    assert refused(lambda: Membership.objects.create(organization=acme, user=acme_member, role="admin"))


def test_the_database_knows_the_roles(acme, outsider):
    assert refused(lambda: Membership.objects.create(organization=acme, user=outsider, role="king"))


def test_an_organizations_address_is_its_own(acme):
    assert refused(lambda: Organization.objects.create(name="Other", slug=acme.slug))


def test_owners_and_admins_administer(acme, acme_admin, acme_member, make_user, outsider):
    second = make_user("second@acme.example")
    Membership.objects.create(organization=acme, user=second, role=Membership.Role.ADMIN)
    administered = Organization.objects.administered_by

    assert acme in administered(acme_admin)
    assert acme in administered(second)
    assert acme not in administered(acme_member)
    assert acme not in administered(outsider)
    assert acme in Organization.objects.of(acme_member)
    assert acme not in Organization.objects.of(outsider)
