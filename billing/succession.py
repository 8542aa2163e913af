"""Which agreement continues which, and what the next one inherits.

A renewal or replacement is a new agreement under a new license (Seller Guide, "Managing SaaS subscription
events"). The buyer must not notice: the organization moves on to it, and with it everything that hangs there.
Open usage stays with the license under which it occurred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import locks
from accounts.models import User
from billing import audit, customers, flags, lifecycle, owed
from billing.decision_rules import Refused
from billing.fold import UNEXPLAINED_GRACE
from billing.models import Agreement, Effect
from billing.models.customers import AgreementQuerySet
from billing.owed import Debt


@dataclass(frozen=True, slots=True)
class Unclear:
    """It cannot be said yet, or ever without a person: ``why``."""

    why: str
    several: bool = False


_SEVERAL = Unclear("several purchases of the buyer may be meant", several=True)


def link(agreement: Agreement, *, now: datetime) -> Unclear | None:
    """Find what ``agreement`` continues and what continues it, link them, and let the successor inherit.

    Whoever of the two is asked later finds the other. Linked already changes nothing.
    """
    old: Agreement | Unclear | None = agreement.previous
    if old is None and agreement.continues_another:
        old = _only(_predecessors(agreement), agreement, lambda each: _doubt(each, agreement, now=now))
    new: Agreement | Unclear | None = Agreement.objects.filter(previous=agreement).first()
    if new is None and agreement.is_continued:
        new = _only(_successors(agreement), agreement, lambda each: _doubt(agreement, each, now=now))
    for first, second in ((old, agreement), (agreement, new)):
        if isinstance(first, Agreement) and isinstance(second, Agreement):
            _join(first, second, now=now)
    unclear = [each for each in (old, new) if isinstance(each, Unclear)]
    return max(unclear, key=lambda each: each.several, default=None)


def let_inherit(old: Agreement, *, now: datetime) -> None:
    """``old`` has an organization now: what continues it, and was there before, goes there too."""
    successor = Agreement.objects.filter(previous=old, organization=None).first()
    if successor is not None:
        owed.owe(successor, [Debt(Effect.Kind.LINK, "the one before was claimed", now)])


def ask(agreement: Agreement, unclear: Unclear, *, now: datetime) -> None:
    """Several purchases might be meant, or none came: a person must look."""
    reason = flags.UNCLEAR_SUCCESSION if unclear.several else flags.NO_SUCCESSOR
    with transaction.atomic():
        flags.raise_flag(customers.lock(agreement.pk), reason, at=now)


def check(new: Agreement, *, old: Agreement) -> bool:
    """Whether a person may say that ``new`` continues ``old`` (False: it does already). Raises Refused."""
    if new.previous_id == old.pk:
        return False
    if new.pk == old.pk:
        raise Refused(_("A purchase does not continue itself."))
    if (new.product_id, new.customer_id) != (old.product_id, old.customer_id):
        raise Refused(
            _("They are purchases of two products or two AWS accounts: neither continues the other.")
        )
    if new.previous_id is not None:
        raise Refused(_("It continues another purchase already."))
    if Agreement.objects.filter(previous=old).exists():
        raise Refused(_("Another purchase continues that one already."))
    if new.created_at < old.created_at or old.previous_id == new.pk:
        raise Refused(_("That one is the newer of the two."))
    if None not in (new.organization_id, old.organization_id) and new.organization_id != old.organization_id:
        raise Refused(_("They belong to two workspaces. Move one of them first."))
    return True


def link_by_hand(new_pk: int, *, old: Agreement, by: User, reason: str, now: datetime) -> bool:
    """A person says that it continues ``old``, where AWS did not. Returns whether that was new."""
    with transaction.atomic():
        locked = {each.pk: each for each in customers.lock_many({new_pk, old.pk})}
        new = locked[new_pk]
        if not check(new, old=locked[old.pk]):
            return False
        audit.record(new, "linked_by_hand", by=by, at=now, reason=reason, agreement=old.pk)
        _join(locked[old.pk], new, by=by, now=now)
    return True


@transaction.atomic
def _join(old: Agreement, new: Agreement, *, now: datetime, by: User | str = "aws") -> None:
    # Locked in one order, whichever of the two asked: two consumers never wait for each other in a ring.
    locked = {each.pk: each for each in customers.lock_many([old.pk, new.pk])}
    old, new = locked[old.pk], locked[new.pk]
    if new.previous_id is None:
        if Agreement.objects.filter(previous=old).exists():
            return  # somebody linked another meanwhile
        new.previous = old
        new.save(update_fields=["previous"])
        audit.record(new, "continues", by=by, at=now, agreement=old.pk)
        audit.record(old, "continued", by=by, at=now, agreement=new.pk)
    if new.previous_id != old.pk:
        return
    for each in (old, new):
        flags.lower_flag(each, flags.UNCLEAR_SUCCESSION, by=by, at=now)
    if new.activated_at is not None:
        flags.lower_flag(old, flags.NO_SUCCESSOR, by=by, at=now)
    # A workspace that was closed inherits nothing: the purchase waits for its buyer to come again.
    if new.organization_id is not None or old.organization_id is None:
        return
    # Closing it holds this row and looks for purchases: one of the two comes first.
    organization = locks.organization(old.organization_id)
    if organization.closed_at is None:
        new.organization, new.claimed_at = organization, now
        new.save(update_fields=["organization", "claimed_at"])
        audit.record(new, "inherited", by=by, at=now, organization=old.organization_id, agreement=old.pk)
        lifecycle.bring_up_to_date(new, by=by, now=now)
        let_inherit(new, now=now)


def _predecessors(new: Agreement) -> list[Agreement]:
    """Those that ``new`` may continue: the one AWS names, else any of the buyer's that goes on elsewhere."""
    if new.previous_agreement_id is not None:
        return list(
            Agreement.objects.filter(agreement_id=new.previous_agreement_id, successor=None).exclude(
                pk=new.pk
            )
        )
    return list(_same_buyers(new).continued().filter(successor=None))


def _successors(old: Agreement) -> list[Agreement]:
    """Those that may continue ``old``: the one that names it, else any of the buyer's that continues one."""
    if old.agreement_id is not None:
        named = list(Agreement.objects.filter(previous_agreement_id=old.agreement_id, previous=None))
        if named:
            return named
    others = _same_buyers(old).filter(previous_agreement_id=None, previous=None)
    return [other for other in others if other.continues_another]


def _same_buyers(agreement: Agreement) -> AgreementQuerySet:
    same = Agreement.objects.filter(product=agreement.product_id, customer=agreement.customer_id)
    return same.exclude(pk=agreement.pk)


def _only(
    found: Sequence[Agreement], of: Agreement, doubt: Callable[[Agreement], Unclear | None]
) -> Agreement | Unclear:
    """The one that can be meant: that of the same chain, or the only one without a doubt."""
    found = [each for each in found if not _of_another_chain(each, of)]
    if not found:
        return Unclear("the other agreement is not known yet")
    chain = [each for each in found if _same_chain(each, of)]
    if len(chain) == 1:
        return chain[0]
    if len(found) == 1:
        return doubt(found[0]) or found[0]
    return _SEVERAL


def _doubt(old: Agreement, new: Agreement, *, now: datetime) -> Unclear | None:
    """Why ``new`` may not be what continues ``old``, although nothing else is known that does."""
    if [each.pk for each in _successors(old)] != [new.pk] or [each.pk for each in _predecessors(new)] != [
        old.pk
    ]:
        return _SEVERAL
    if new.previous_agreement_id is not None or now - new.created_at >= UNEXPLAINED_GRACE:
        return None
    # It is not named. What another workspace of the same buyer holds may be replaced at the same moment, the
    # events of that still on their way; a wrong guess would open a workspace to strangers.
    others = _same_buyers(old).live(now).filter(successor=None).exclude(pk=new.pk)
    if others.exclude(organization=old.organization_id).exists():
        return Unclear("another purchase of the buyer may be meant, of which AWS tells later")
    return None


def _of_another_chain(one: Agreement, other: Agreement) -> bool:
    firsts = {one.initial_agreement_id, other.initial_agreement_id}
    return None not in firsts and len(firsts) == 2


def _same_chain(one: Agreement, other: Agreement) -> bool:
    """Only DescribeAgreement tells the first agreement of a chain."""
    firsts = [each.initial_agreement_id for each in (one, other)]
    return None not in firsts and firsts[0] == firsts[1]
