from datetime import UTC, datetime, timedelta

import pytest
from allauth.account.models import EmailAddress
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction

from accounts.models import Invitation, Membership, Organization, User

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


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


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["mıke@gmail.com", "mike@gmaıl.com"])
def test_a_user_is_not_found_by_an_address_that_only_looks_like_theirs(make_user, address):
    user = make_user("mike@gmail.com")
    for unknown in (address, "", None):
        with pytest.raises(User.DoesNotExist):
            User.objects.get_by_natural_key(unknown)
    lookalike = make_user(address)

    assert User.objects.get_by_natural_key("Mike@GMAIL.com") == user
    assert User.objects.get_by_natural_key(address) == lookalike


def test_a_user_needs_an_address(db):
    with pytest.raises(ValueError, match="e-mail"):
        User.objects.create_user("", "secret")


def test_a_superuser_is_staff(db):
    user = User.objects.create_superuser("root@acme.example", "secret")

    assert user.is_staff
    assert user.is_superuser


def test_a_superuser_with_the_address_of_another_s_account_is_refused_with_a_sentence(acme_member):
    EmailAddress.objects.create(user=acme_member, email="root@acme.example", verified=True)

    for address in ("root@acme.example", "Root@ACME.example"):
        with pytest.raises(CommandError, match="belongs to an account already"):
            call_command("createsuperuser", email=address, interactive=False)

    assert not User.objects.filter(is_superuser=True).exists()


def test_a_superuser_may_have_an_address_that_somebody_only_claims(acme_member):
    EmailAddress.objects.create(user=acme_member, email="root@acme.example", verified=False)

    call_command("createsuperuser", email="root@acme.example", interactive=False)

    assert User.objects.get(is_superuser=True).email == "root@acme.example"


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


@pytest.fixture
def make_invitation(acme, acme_admin):
    def make(email="eve@acme.example", **fields):
        usual = {
            "organization": acme,
            "role": "member",
            "invited_by": acme_admin,
            "digest": f"{Invitation.objects.count():064x}",
            "expires_at": NOW + timedelta(days=7),
        }
        return Invitation.objects.create(email=email, **usual | fields)

    return make


def test_an_address_has_one_open_invitation_whatever_its_case(make_invitation):
    make_invitation()

    assert refused(lambda: make_invitation())
    assert refused(lambda: make_invitation("Eve@ACME.example"))
    assert make_invitation("tom@acme.example")


def test_what_is_over_leaves_room_for_the_next_invitation(make_invitation, acme_admin, outsider):
    make_invitation(accepted_at=NOW, accepted_by=acme_admin)
    make_invitation(revoked_at=NOW)

    assert make_invitation()
    assert make_invitation(organization=outsider.organizations.get())


def test_a_digest_is_of_one_invitation(make_invitation):
    make_invitation(digest="d")

    assert refused(lambda: make_invitation("tom@acme.example", digest="d"))


@pytest.mark.parametrize("role", ["owner", "king", ""])
def test_the_database_knows_what_one_is_invited_as(make_invitation, role):
    assert refused(lambda: make_invitation(role=role))


@pytest.mark.parametrize(
    "change",
    [
        "accepted_at = '2026-11-23 10:00:00'",
        "accepted_by_id = invited_by_id",
        "accepted_at = '2026-11-23 10:00:00', accepted_by_id = invited_by_id, "
        "revoked_at = '2026-11-23 10:00:00'",
        "role = 'owner'",
    ],
)
def test_no_sql_makes_an_invitation_what_it_cannot_be(make_invitation, change):
    make_invitation()

    def update():
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE accounts_invitation SET {change}")

    assert refused(update)


def test_an_invitation_is_open_until_somebody_ends_it_and_pending_until_it_expires(
    make_invitation, acme_admin
):
    good = make_invitation()
    old = make_invitation("tom@acme.example", expires_at=NOW)
    make_invitation(accepted_at=NOW, accepted_by=acme_admin)
    make_invitation(revoked_at=NOW)

    assert set(Invitation.objects.open()) == {good, old}
    assert list(Invitation.objects.pending(NOW)) == [good]
    assert str(good) == "eve@acme.example · Member of Acme"
