"""One runner at a time, known by its token."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import InternalError, OperationalError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from billing import leases
from billing.models import Lease

LONG = timedelta(minutes=2)


def run_out(name="job"):
    Lease.objects.filter(name=name).update(expires_at=Now() - timedelta(seconds=1))


def test_a_second_runner_gets_nothing_until_the_first_is_done(db):
    with leases.hold("job", length=LONG) as first:
        assert first is not None
        with leases.hold("job", length=LONG) as second:
            assert second is None
        with leases.hold("another job", length=LONG) as other:
            assert other is not None
    with leases.hold("job", length=LONG) as later:
        assert later is not None
        assert later.token == first.token + 1


def test_a_runner_that_got_nothing_takes_nothing_away(db):
    with leases.hold("job", length=LONG) as first:
        with leases.hold("job", length=LONG):
            pass
        first.renew()


def test_a_runner_that_failed_leaves_the_lease_free(db):
    with pytest.raises(RuntimeError), leases.hold("job", length=LONG):
        raise RuntimeError
    with leases.hold("job", length=LONG) as next_runner:
        assert next_runner is not None


def test_renewing_starts_the_time_anew(db):
    with leases.hold("job", length=LONG) as held:
        Lease.objects.update(expires_at=Now() + timedelta(seconds=5))
        held.renew()
        assert Lease.objects.filter(expires_at__gt=Now() + timedelta(minutes=1)).exists()


def test_a_lease_that_ran_out_is_lost_even_if_nobody_took_it(db):
    with leases.hold("job", length=LONG) as held:
        run_out()
        with pytest.raises(leases.LeaseLost):
            held.renew()


def test_a_runner_past_its_lease_cannot_renew_or_free_the_lease_of_the_next(db):
    with leases.hold("job", length=LONG) as stale:
        run_out()
        with leases.hold("job", length=LONG) as current:
            assert current.token == stale.token + 1
            with pytest.raises(leases.LeaseLost):
                stale.renew()
            current.renew()
        taken = leases.hold("job", length=LONG)
        assert taken.__enter__() is not None
    # The stale runner's end comes last, and frees nothing that is not its own.
    assert Lease.objects.filter(name="job", expires_at__gt=Now()).exists()


@pytest.mark.django_db(transaction=True)
def test_of_many_that_try_at_once_one_gets_it():
    barrier, tokens = threading.Barrier(6), []

    def try_it():
        try:
            barrier.wait()
            with leases.hold("job", length=LONG) as held:
                if held is not None:
                    tokens.append(held.token)
                barrier.wait()
        finally:
            connection.close()

    threads = [threading.Thread(target=try_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert tokens == [1]


def test_the_time_is_the_databases(db):
    with leases.hold("job", length=LONG):
        assert Lease.objects.filter(expires_at__gt=Now(), expires_at__lte=Now() + LONG).count() == 1
        assert Lease.objects.filter(token=F("token")).get().holder


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_transaction_left_open_by_a_stopped_runner_ends_before_its_lease():
    def timeout():
        with connection.cursor() as cursor:
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            return cursor.fetchone()[0]

    before = timeout()
    with leases.hold("job", length=LONG):
        assert timeout() == "90s"
        with leases.hold("job", length=LONG):
            assert timeout() == "90s"
    assert timeout() == before

    def sleeps_past_it():
        with leases.hold("job", length=timedelta(seconds=0.4)) as held, transaction.atomic():
            held.renew()
            time.sleep(1)
            held.renew()

    with pytest.raises((InternalError, OperationalError)):  # by where it notices
        sleeps_past_it()
    connection.close()
    with leases.hold("job", length=LONG) as following:
        assert following is not None


def test_who_comes_first_has_it_for_all_of_the_time(db):
    assert leases.first_in("bell", length=LONG) is not None
    assert leases.first_in("bell", length=LONG) is None
    run_out("bell")
    assert leases.first_in("bell", length=LONG) is not None


def test_a_lease_is_fresh_until_three_quarters_of_it_are_over(db, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(leases, "_clock", lambda: now[0])
    with leases.hold("job", length=LONG) as held:
        for seconds, fresh in ((89, True), (1, False), (600, False)):
            now[0] += seconds
            assert held.is_fresh is fresh
        held.renew()
        assert held.is_fresh
        assert held.age == timedelta(0)
