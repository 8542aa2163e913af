"""Verifying: the ledger agreement by agreement, all of it as of one instant, then the invoice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from django.db import connection, transaction

from billing.models import Agreement
from billing.reconciliation import equation, figures, identities, invoices, states
from billing.reconciliation.breach import Breach
from billing.reconciliation.invoices import Invoice
from billing.reconciliation.reading import Account, Span, accounts


def verify(
    *,
    agreements: Iterable[Agreement] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    invoice: Invoice | None = None,
) -> Iterator[Breach]:
    """Every breach of the ledger's rules in the hours from ``since`` on, before ``until``.

    Nothing means that all of it is proved.
    """
    found = findings(agreements=agreements, since=since, until=until, invoice=invoice)
    return (breach for breach in found if not breach.is_information)


def findings(
    *,
    agreements: Iterable[Agreement] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    invoice: Invoice | None = None,
) -> Iterator[Breach]:
    """As ``verify``, and what a person may want to know but is no breach.

    Reads one agreement at a time, all of them as of one instant: writers go on meanwhile.
    """
    pks = None if agreements is None else [agreement.pk for agreement in agreements]
    span = Span(since, until)
    comparison = None if invoice is None else invoices.Comparison(invoice, span=span)
    with one_instant():
        for account in accounts(pks=pks, span=span):
            yield from _check(account)
            if comparison is not None:
                comparison.add(account)
        yield from identities.check(pks=pks, span=span)
    if comparison is not None:
        yield from comparison.differences(all_agreements=pks is None)


def _check(account: Account) -> Iterator[Breach]:
    yield from figures.check(account)
    yield from states.check(account)
    yield from equation.check(account)


@contextmanager
def one_instant() -> Iterator[None]:
    """Read all tables as of one moment, without keeping anybody from writing."""
    if connection.in_atomic_block:
        yield  # the caller's transaction says what is seen
        return
    if connection.vendor == "postgresql":
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield
        return
    # Not atomic(): it would begin IMMEDIATE, and no one could write until all is read.
    with connection.cursor() as cursor:
        cursor.execute("BEGIN DEFERRED")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
