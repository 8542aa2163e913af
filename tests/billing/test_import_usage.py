"""Usage from a file: told first, stored in pieces, never twice, and nothing rejected without a reason."""

from __future__ import annotations

import csv
import os
import signal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from billing.models import UsageEvent
from billing.recording import bulk_store, csv_files
from tests.billing.ledger import make_agreement

HEADER = "organization,dimension,quantity,key,occurred_at"
AT = "2026-11-20T12:00:00Z"


@pytest.fixture
def bought(catalog, acme):
    return make_agreement(catalog, acme, activated_at="2026-11-01T00:00:00Z")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "usage.csv"


def write(path, *lines: str, header: str = HEADER, end: str = "\n", encoding: str = "utf-8") -> None:
    path.write_bytes(end.join([header, *lines, ""]).encode(encoding))


def run(path, *options: str) -> str:
    out = StringIO()
    call_command("import_usage", str(path), *options, stdout=out)
    return out.getvalue()


def keys() -> list[str]:
    return sorted(UsageEvent.objects.values_list("key", flat=True))


def rejects(path) -> list[dict[str, str]]:
    with path.with_suffix(".rejects.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_without_commit_it_tells_and_stores_nothing(bought, path):
    write(path, f"acme,pages,3,a,{AT}", f"acme,pages,0.25,b,{AT}")

    said = run(path)

    assert "2 would be stored as " in said
    assert "add --commit" in said
    assert keys() == []
    assert os.listdir(path.parent) == ["usage.csv"]


def test_with_commit_every_column_is_stored(bought, path):
    write(
        path,
        f'acme,pages,0.25,"a,\n1",{AT},{bought.agreement_id},ml,',
        f"acme,pages,3,b,2026-11-20T21:00:00+09:00,{bought.license_arn},,x y",
        header=f"{HEADER},agreement,tag:team,tag:cost centre",
    )

    run(path, "--commit")

    first, second = UsageEvent.objects.order_by("key")
    assert [str(each.quantity.normalize()) for each in (first, second)] == ["0.25", "3"]
    assert (first.key, first.tags, second.tags) == ("a,\n1", {"team": "ml"}, {"cost centre": "x y"})
    assert first.occurred_at == second.occurred_at
    assert first.occurred_at.isoformat() == "2026-11-20T12:00:00+00:00"
    assert {first.agreement, second.agreement} == {bought}


def test_rejected_lines_are_named_with_reasons_and_the_rest_is_stored(bought, path):
    write(
        path,
        f"acme,pages,3,good,{AT}",
        f"acme,pages,-1,negative,{AT}",
        "",
        f'acme,pages,1,"over\ntwo lines",{AT}',
        f"nobody,pages,1,slug,{AT}",
        "acme,pages,1,few",
        "acme,pages,1,when,yesterday",
        "acme,pages,1,zone,2026-11-20T12:00:00",
        f"acme,sheets,1,dimension,{AT}",
        f"acme,pages,1,good,{AT}",
        f'acme,pages,1,"quo"te,{AT}',
        f"acme,pages,1,last,{AT}",
    )

    with pytest.raises(CommandError, match=r"8 rejected: see .*usage\.rejects\.csv"):
        run(path, "--commit")

    assert keys() == ["good", "last", "over\ntwo lines"]
    found = rejects(path)
    assert [row["line"] for row in found] == ["3", "7", "8", "9", "10", "11", "12", "13"]
    for row, said in zip(
        found,
        ["quantity: -1", "none with the slug 'nobody'", "4 cells under 5 columns", "give a time such as",
         "has no time zone", "no product that Acme bought", "used before with other content", "no CSV"],
        strict=True,
    ):  # fmt: skip
        assert said in row["reason"]
    assert found[0]["key"] == "negative"


def test_mended_rejects_can_be_imported_themselves(bought, path):
    write(path, f"acme,pages,-1,a,{AT}")
    with pytest.raises(CommandError):
        run(path, "--commit")
    mended = path.with_suffix(".rejects.csv")
    mended.write_text(mended.read_text().replace("acme,pages,-1", "acme,pages,1"))

    run(mended, "--commit")

    assert keys() == ["a"]


def test_an_import_that_was_stopped_goes_on_where_it_was(bought, path, monkeypatch):
    write(path, *(f"acme,pages,1,k{n},{AT}" for n in range(10)))
    import_piece, calls = csv_files.import_piece, []

    def dies_in_the_third(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return import_piece(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(csv_files, "import_piece", dies_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            run(path, "--commit", "--piece=3")
    assert len(keys()) == 6

    said = run(path, "--commit", "--piece=3")

    assert "6 known already" in said
    assert len(keys()) == 10
    assert "10 known already" in run(path, "--commit")


@pytest.mark.django_db(transaction=True)
def test_an_import_that_was_killed_goes_on_where_it_was(bought, path):
    write(path, *(f"acme,pages,1,k{n},{AT}" for n in range(10)))
    store, calls = bulk_store.store, []
    connections.close_all()  # a connection is one process's
    child = os.fork()
    if child == 0:

        def dies_in_the_third(*arguments, **options):
            known = store(*arguments, **options)
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)  # stored, and not committed
            return known

        try:
            bulk_store.store = dies_in_the_third
            run(path, "--commit", "--piece=3")
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert keys() == [f"k{n}" for n in range(6)]

    said = run(path, "--commit", "--piece=3")

    assert "6 known already" in said
    assert keys() == [f"k{n}" for n in range(10)]
    assert os.listdir(path.parent) == ["usage.csv"]


def test_a_mended_file_leaves_no_old_rejects(bought, path):
    write(path, f"acme,pages,-1,a,{AT}")
    with pytest.raises(CommandError):
        run(path)
    write(path, f"acme,pages,1,a,{AT}")
    run(path)
    assert os.listdir(path.parent) == ["usage.csv"]


@pytest.mark.parametrize(("encoding", "end"), [("utf-8-sig", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r\n")])
def test_marks_and_line_ends_of_spreadsheets_are_understood(bought, path, encoding, end):
    write(path, f"acme,pages,1,größe,{AT}", encoding=encoding, end=end)
    run(path, "--commit")
    assert keys() == ["größe"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"organization,dimension,quantity,key\n", "no column 'occurred_at'"),
        (f"{HEADER},occured_at\n".encode(), "'occured_at' is unknown"),
        (f"{HEADER},tag:\n".encode(), "'tag:' is unknown"),
        (f"{HEADER},key\n".encode(), "'key' is there twice"),
        (f"{HEADER}\nacme,pages,1,gr\xf6\xdfe,{AT}\n".encode("latin-1"), "is not UTF-8"),
        (f"{HEADER}\n".encode("utf-16"), "is not UTF-8"),
        (HEADER.encode() + b"\xc3", "is not UTF-8"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_whole(bought, path, content, why):
    path.write_bytes(content)
    with pytest.raises(CommandError, match=why):
        run(path, "--commit")
    assert os.listdir(path.parent) == ["usage.csv"]


def test_a_header_alone_imports_nothing(bought, path):
    write(path)
    assert "0 known" in run(path, "--commit")


def test_what_is_no_file_is_refused(db, path, tmp_path, monkeypatch):
    with pytest.raises(CommandError, match="No such file"):
        run(path)
    with pytest.raises(CommandError, match="is no file"):
        run(tmp_path)
    os.mkfifo(path)
    with pytest.raises(CommandError, match="is no file"):
        run(path)


def test_a_file_without_permission_is_refused(db, path, monkeypatch):
    write(path)

    def denied(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", denied)  # root, as which CI runs, may read everything
    with pytest.raises(CommandError, match="Permission denied"):
        run(path)
