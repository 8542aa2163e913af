"""Repairs of purchases: read what was bought, move, link, welcome, settle a flag."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from billing import audit, customers, entitlements, flags, moved_quotas, succession, transfers, welcome_again
from billing.aws.errors import MarketplaceError
from billing.decision_rules import Refused
from billing.models import Agreement
from billing.repairs.kinds import (
    Chunk,
    Foreseen,
    Parameters,
    Question,
    Repair,
    Result,
    agreements_text,
    one_by_one,
)


class _OfAgreements(Repair):
    model = Agreement

    def other(self, parameters: Parameters) -> Any:
        """The row that the answers name: where to, or after which."""
        return None

    def check(self, agreement: Agreement, other: Any) -> bool:
        """Whether it would change (False: it is so already). Raises Refused."""
        return True

    def notes(self, agreements: Sequence[Agreement], other: Any, *, now: datetime) -> list[str]:
        return []

    def foresee(self, rows: Sequence[Agreement], parameters: Parameters, *, now: datetime) -> Foreseen:
        by_pk, other = {row.pk: row for row in rows}, self.other(parameters)
        decided = one_by_one(by_pk, lambda pk: self.check(by_pk[pk], other))
        found = [by_pk[pk] for pk in decided.done]
        amount = agreements_text(len(found)) if found else ""
        return Foreseen(decided, amount, self.notes(found, other, now=now))


class SyncEntitlements(_OfAgreements):
    name, permission = "sync_entitlements", "sync_entitlements"
    asks_aws, chunk = True, 1
    title = _("Read entitlements now")
    effect = _(
        "AWS is asked what is in force, one call for each. What it says opens and closes access at once, as "
        "the hourly reading would."
    )

    def check(self, agreement: Agreement, other: Any) -> bool:
        if not agreement.product.has_entitlements:
            raise Refused(
                gettext("It is a subscription: it has no entitlements, being active is all it grants.")
            )
        return True

    def carry_out(self, chunk: Chunk) -> Result:
        def read(pk: int) -> bool:
            with transaction.atomic():
                agreement = customers.lock(pk)
                self.check(agreement, None)
                audit.record(agreement, "entitlements_synced", by=chunk.by, at=chunk.now, reason=chunk.reason)
            try:
                return entitlements.sync(agreement, marketplace=chunk.marketplace(), now=chunk.now)
            except MarketplaceError as error:
                raise Refused(
                    gettext("AWS was not read (%(code)s). %(fix)s")
                    % {"code": error.code, "fix": error.meaning.fix}
                ) from error

        return Result(one_by_one(chunk.rows, read))


class Transfer(_OfAgreements):
    name, permission = "transfer", "transfer_agreement"
    title = _("Move to another workspace")
    effect = _(
        "Access moves at once, together with what renews the purchase. What was used until now stays with "
        "the old workspace and is billed as before. From then on only the new workspace can record usage on "
        "it: what your product reports later for the old one is refused, unless another purchase counts it. "
        "The owners and admins of both workspaces are told by mail, without the other's name."
    )
    questions = (
        Question(
            "to",
            _("Workspace"),
            _("Its address: what stands after /o/ on its pages. The organization's page shows it too."),
        ),
    )

    def seen(self, row: Agreement) -> str:
        return str(row.organization_id or "")

    def fits(self, row: Agreement) -> bool:
        return row.organization_id is not None and row.status == Agreement.Status.ACTIVE

    def read(self, parameters: Parameters) -> Parameters:
        address = parameters.get("to", "").strip().strip("/").rpartition("/")[2]
        target = Organization.objects.filter(slug=address).first() if "\x00" not in address else None
        if target is None:
            raise Refused(gettext("There is no workspace of this address."))
        if target.closed_at is not None:
            raise Refused(gettext("This workspace is closed: nobody is in it."))
        return {"to": target.slug, "organization": str(target.pk)}

    def other(self, parameters: Parameters) -> Any:
        return Organization.objects.get(pk=int(parameters["organization"]))

    def check(self, agreement: Agreement, other: Any) -> bool:
        return transfers.check(agreement, to=other)

    def notes(self, agreements: Sequence[Agreement], other: Any, *, now: datetime) -> list[str]:
        told = [gettext("To: %(workspace)s") % {"workspace": f"{other} ({other.slug})"}]
        return told + (moved_quotas.sentences(agreements, to=other, now=now) if agreements else [])

    def carry_out(self, chunk: Chunk) -> Result:
        target = self.other(chunk.parameters)

        def move(pk: int) -> bool:
            return transfers.transfer(
                pk, to=target, by=chunk.by, reason=chunk.reason, now=chunk.now, seen=chunk.rows[pk]
            )

        return Result(one_by_one(chunk.rows, move))


class LinkRenewal(_OfAgreements):
    name, permission, is_final = "link_renewal", "link_renewal", True
    title = _("Continues another purchase")
    effect = _(
        "The purchase is taken for the renewal or replacement of the other: it inherits its workspace, and "
        "the two count once. This cannot be taken back."
    )
    questions = (
        Question(
            "continues",
            _("The purchase before it"),
            _("Its agreement id (agmt-…) or license id (l-…) at AWS."),
        ),
    )

    def fits(self, row: Agreement) -> bool:
        return row.previous_id is None

    def seen(self, row: Agreement) -> str:
        return str(row.organization_id or "")

    def read(self, parameters: Parameters) -> Parameters:
        named = parameters.get("continues", "").strip()
        found = None
        if named and "\x00" not in named:
            found = (
                Agreement.objects.filter(agreement_id=named).first()
                or Agreement.objects.filter(license_id=_license(named)).first()
            )
        if found is None:
            raise Refused(gettext("There is no purchase of this id."))
        return {"continues": named, "agreement": str(found.pk)}

    def other(self, parameters: Parameters) -> Any:
        return Agreement.objects.select_related("product", "customer").get(pk=int(parameters["agreement"]))

    def check(self, agreement: Agreement, other: Any) -> bool:
        return succession.check(agreement, old=other)

    def notes(self, agreements: Sequence[Agreement], other: Any, *, now: datetime) -> list[str]:
        return [gettext("The purchase before it: %(agreement)s") % {"agreement": other}]

    def carry_out(self, chunk: Chunk) -> Result:
        old = self.other(chunk.parameters)

        def link(pk: int) -> bool:
            return succession.link_by_hand(pk, old=old, by=chunk.by, reason=chunk.reason, now=chunk.now)

        return Result(one_by_one(chunk.rows, link))


class ResendWelcome(_OfAgreements):
    name, permission = "resend_welcome", "resend_mail"
    title = _("Send the welcome again")
    effect = _("The owners and admins of the workspace get the welcome mail once more, within a minute.")

    def fits(self, row: Agreement) -> bool:
        return row.organization_id is not None and row.status in (
            Agreement.Status.PENDING,
            Agreement.Status.ACTIVE,
        )

    def seen(self, row: Agreement) -> str:
        return str(row.organization_id or "")

    def check(self, agreement: Agreement, other: Any) -> bool:
        return welcome_again.check(agreement)

    def carry_out(self, chunk: Chunk) -> Result:
        def send(pk: int) -> bool:
            return welcome_again.send(
                pk, by=chunk.by, reason=chunk.reason, now=chunk.now, seen=chunk.rows[pk]
            )

        return Result(one_by_one(chunk.rows, send))


class SettleFlag(_OfAgreements):
    name, permission = "settle_flag", "settle_flag"
    title = _("Take the flag away")
    effect = _(
        "You have seen to what it was flagged for. Nothing else changes: an advisory of AWS goes on until "
        "AWS resolves it. It is flagged again if something new happens."
    )

    def fits(self, row: Agreement) -> bool:
        return row.flagged_at is not None

    def seen(self, row: Agreement) -> str:
        return row.flag_reason if row.flagged_at is not None else ""

    def check(self, agreement: Agreement, other: Any) -> bool:
        return agreement.flagged_at is not None

    def notes(self, agreements: Sequence[Agreement], other: Any, *, now: datetime) -> list[str]:
        reasons = dict.fromkeys(agreement.flag_reason for agreement in agreements)
        return [gettext("Flagged because: %(reason)s") % {"reason": reason} for reason in reasons]

    def carry_out(self, chunk: Chunk) -> Result:
        def settle(pk: int) -> bool:
            return flags.settle(pk, by=chunk.by, reason=chunk.reason, now=chunk.now, seen=chunk.rows[pk])

        return Result(one_by_one(chunk.rows, settle))


def _license(named: str) -> str:
    try:
        return customers.license_id(named)
    except ValueError:
        return named
