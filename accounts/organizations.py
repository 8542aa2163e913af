"""What may happen to an organization: the rules."""

from django.db import IntegrityError, transaction
from django.utils.crypto import get_random_string
from django.utils.text import slugify

from accounts.models import Membership, Organization, User

# Words that would read as a page of ours under /o/.
_RESERVED_SLUGS = frozenset({"new", "admin", "settings"})


def create(*, name: str, owner: User) -> Organization:
    """Make an organization with ``owner`` in it. Its address is the name, made unique if taken."""
    base = slugify(name)[:50].strip("-") or "team"
    slug = f"{base}-{get_random_string(4).lower()}" if base in _RESERVED_SLUGS else base
    while True:
        try:
            with transaction.atomic():
                organization = Organization.objects.create(name=name, slug=slug)
                Membership.objects.create(organization=organization, user=owner, role=Membership.Role.OWNER)
        except IntegrityError:
            if not Organization.objects.filter(slug=slug).exists():
                raise
            slug = f"{base}-{get_random_string(6).lower()}"
        else:
            return organization
