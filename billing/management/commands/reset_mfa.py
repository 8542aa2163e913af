"""`manage.py reset_mfa`: the audited way back for somebody who has lost their second factor."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts.models import User
from billing.trail import staff


class Command(BaseCommand):
    help = (
        "Take away somebody's second factors and end their sessions. Be sure that it is them who asks: call "
        "them back. They sign in with their password or a mailed code, and set up a new one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", help="the address they sign in with")
        parser.add_argument(
            "--reason", default="", help="for the audit trail, which holds no names or addresses"
        )

    def handle(self, *args: Any, email: str, reason: str, **options: Any) -> None:
        if "@" in reason:
            raise CommandError("The reason stays in the audit trail, which holds no addresses.")
        try:
            user = User.objects.get_by_natural_key(email.strip())
        except User.DoesNotExist:
            raise CommandError(f"Nobody signs in with {email}.") from None
        count = staff.reset_second_factor(user, reason=reason, now=timezone.now())
        if not count:
            self.stdout.write("There was no second factor. Their sessions are ended.")
        else:
            self.stdout.write("Their second factor is gone and their sessions are ended.")
        if user.is_staff:
            self.stdout.write("They sign in and open /admin/, which leads them to set up a new one.")
        if not user.is_active:
            self.stdout.write("The account is not active: they cannot sign in until it is.")
