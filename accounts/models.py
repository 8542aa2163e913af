"""People and the organizations they work in. Knows nothing of AWS or money."""

from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class UserManager(BaseUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> "User":
        # E-mail addresses are compared without case: Ada@x.example signs in as ada@x.example. Never by
        # "iexact": PostgreSQL would find two where one only looks like the other (accounts.addresses).
        return self.alias(lowered=Lower("email")).get(lowered=(username or "").lower())

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        if not email:
            raise ValueError("A user needs an e-mail address.")
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Raises ValidationError, which the command ends with, when the address is another account's."""
        proven = Q(emailaddress__email=email.strip().lower(), emailaddress__verified=True)
        if self.filter(proven).exists():
            raise ValidationError(_("This email address belongs to an account already."))
        user = self.create_user(email, password, **{**fields, "is_staff": True, "is_superuser": True})
        # Whoever has a shell here needs no mail to prove the address: allauth lets them sign in at once.
        user.emailaddress_set.create(email=user.email, verified=True, primary=True)
        return user


class User(AbstractBaseUser, PermissionsMixin):
    """A person. The e-mail address is the login."""

    email = models.EmailField(_("e-mail address"), unique=True)
    name = models.CharField(_("name"), max_length=150, blank=True)
    is_staff = models.BooleanField(_("staff"), default=False)
    is_active = models.BooleanField(_("active"), default=True)
    date_joined = models.DateTimeField(_("joined"), default=timezone.now)
    # As they chose; '' follows the browser, and in mails the site's own language.
    language = models.CharField(_("language"), max_length=10, blank=True)
    time_zone = models.CharField(_("time zone"), max_length=63, blank=True)  # IANA's name; '' is UTC
    # Since then nothing in this row names the person.
    closed_at = models.DateTimeField(null=True, editable=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_unique_without_case")]

    def __str__(self) -> str:
        return self.name or self.email

    def get_short_name(self) -> str:
        return self.name or self.email.partition("@")[0]


class OrganizationQuerySet(models.QuerySet["Organization"]):
    def of(self, user: User) -> Self:
        return self.filter(memberships__user=user)

    def administered_by(self, user: User) -> Self:
        return self.filter(memberships__user=user, memberships__role__in=Membership.ADMINISTRATORS)


class Organization(models.Model):
    """A buyer's workspace: the tenant that every piece of product data hangs on."""

    name = models.CharField(_("name"), max_length=120)
    slug = models.SlugField(max_length=60, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Since then nobody is in it, and nothing in this row names its people.
    closed_at = models.DateTimeField(null=True, editable=False)
    members = models.ManyToManyField(User, through="Membership", related_name="organizations")

    objects = OrganizationQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("accounts:organization", args=[self.slug])


class Membership(models.Model):
    """A person's place in an organization."""

    class Role(models.TextChoices):
        OWNER = "owner", _("Owner")
        ADMIN = "admin", _("Admin")
        MEMBER = "member", _("Member")

    ADMINISTRATORS = (Role.OWNER, Role.ADMIN)

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="memberships")
    user = models.ForeignKey(User, models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["created_at", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "user"], name="membership_once_per_organization"),
            models.CheckConstraint(
                condition=models.Q(role__in=["owner", "admin", "member"]), name="membership_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.get_role_display()} of {self.organization}"

    @property
    def is_administrator(self) -> bool:
        return self.role in self.ADMINISTRATORS


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def open(self) -> Self:
        """Neither accepted nor revoked: an address has at most one in an organization, expired or not."""
        return self.filter(accepted_at=None, revoked_at=None)

    def pending(self, now: datetime) -> Self:
        """Those that can be accepted: each holds a place for its person."""
        return self.open().filter(expires_at__gt=now)


class Invitation(models.Model):
    """A place kept for whoever owns an e-mail address, until it is accepted, revoked or expires.

    The secret of its link is stored nowhere. While it is open, inviting the address again renews this row.
    """

    LIFETIME = timedelta(days=7)
    # Nobody is invited as an owner: an owner makes an owner of a member they know.
    ROLES = (Membership.Role.ADMIN, Membership.Role.MEMBER)

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="invitations")
    email = models.EmailField(_("e-mail address"))  # in lower case
    role = models.CharField(max_length=10, choices=[(role.value, role.label) for role in ROLES])
    digest = models.CharField(max_length=64, unique=True)  # SHA-256 of the token, in hexadecimal
    invited_by = models.ForeignKey(User, models.PROTECT, related_name="invitations_sent")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True)
    accepted_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="invitations_accepted")
    revoked_at = models.DateTimeField(null=True)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["created_at", "pk"]
        constraints = [
            models.UniqueConstraint(
                "organization",
                Lower("email"),
                condition=Q(accepted_at=None, revoked_at=None),
                name="invitation_one_open_per_address",
            ),
            models.CheckConstraint(condition=Q(role__in=["admin", "member"]), name="invitation_role_known"),
            models.CheckConstraint(
                condition=Q(accepted_at=None) | Q(revoked_at=None), name="invitation_accepted_or_revoked"
            ),
            models.CheckConstraint(
                condition=Q(accepted_at=None, accepted_by=None)
                | Q(accepted_at__isnull=False, accepted_by__isnull=False),
                name="invitation_accepted_by_somebody",
            ),
        ]
        # Operators look for the invitations of an address.
        indexes = [models.Index(fields=["email"], name="invitation_email")]

    def __str__(self) -> str:
        return f"{self.email} · {self.get_role_display()} of {self.organization}"
