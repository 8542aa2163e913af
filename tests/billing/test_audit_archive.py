"""Old links of the audit trail leave by an export and by nothing else, and both parts prove themselves."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from django.utils import timezone

from billing import audit
from billing.models import AuditCheckpoint, AuditEvent, AuditHead
from billing.trail import archive, heads
from tests.billing.ledger import make_agreement
from tests.billing.trails import found, tamper, write

pytestmark = pytest.mark.django_db

NOW = timezone.now()
OLD = NOW - timedelta(days=800)
UNTIL = NOW - timedelta(days=400)


@pytest.fixture
def agreement(catalog, acme):
    return make_agreement(catalog, acme)


@pytest.fixture
def trail(agreement):
    """Three old links and two young ones of an agreement, two old ones of the site, one of today's staff."""
    for number in range(3):
        write(agreement, at=OLD + timedelta(days=number), text="héllo ☃", number=number)
    for _ in range(2):
        write(agreement, at=NOW)
        write(audit.SYSTEM, at=OLD)
    write(audit.STAFF, at=NOW)
    return agreement.audit_stream


def export(until=UNTIL):
    out = io.StringIO()
    return archive.export(until, out), out.getvalue().splitlines()


def broken_in(lines):
    return [(link.stream, link.sequence, link.reason) for link in archive.verify_file(lines)]


def test_an_export_ends_with_its_count_and_the_head_of_each_stream(trail):
    exported, lines = export()
    *links, closing = (json.loads(line) for line in lines)
    last = AuditEvent.objects.get(stream=trail, sequence=3)
    assert [(link["stream"], link["sequence"]) for link in links] == [
        (trail, 1), (trail, 2), (trail, 3), ("system", 1), ("system", 2),
    ]  # fmt: skip
    assert links[0]["data"] == {"text": "héllo ☃", "number": 0}
    assert (closing["count"], exported.count) == (5, 5)
    assert closing["heads"][trail] == [3, last.mac]
    assert set(closing["heads"]) == {trail, "system"}
    assert broken_in(lines) == []


def test_an_export_leaves_no_hole_where_a_link_is_older_than_the_one_before_it(agreement):
    """Clocks of two machines differ."""
    write(agreement, at=OLD)
    write(agreement, at=NOW)
    write(agreement, at=OLD)
    _, lines = export()
    assert [json.loads(line)["sequence"] for line in lines[:-1]] == [1]
    assert broken_in(lines) == []


def test_an_export_of_nothing_says_so(agreement):
    _, lines = export()
    assert json.loads(lines[0])["count"] == 0
    assert broken_in(lines) == []


def changed(line, **values):
    return json.dumps({**json.loads(line), **values})


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda lines: lines[:-1], [("", 6, "is missing: the file has no closing line")]),
        (lambda lines: [*lines, lines[0]], [("", 7, "is a line after the closing one")]),
        (lambda lines: ["{", *lines], [("", 1, "is a line that is no link")]),
        (lambda lines: ["[]", *lines], [("", 1, "is a line that is no link")]),
        (lambda lines: [changed(lines[0], actor="user:9"), *lines[1:]], [("A", 1, "was changed")]),
        (lambda lines: lines[1:], [("A", 1, "is missing")]),
        (lambda lines: [lines[0], *lines[2:]], [("A", 2, "is missing")]),
        (lambda lines: [*lines[:2], *lines[3:]], [("A", 3, "is missing")]),
        (lambda lines: [*lines[:3], lines[-1]], [("system", 1, "is missing")]),
        (
            lambda lines: [*lines[:-1], changed(lines[-1], count=4)],
            [("", 6, "is a closing line that was changed")],
        ),
        (
            lambda lines: [*lines[:-1], changed(lines[-1], heads={})],
            [("", 6, "is a closing line that was changed")],
        ),
    ],
)
def test_a_file_that_was_tampered_with_is_found(trail, spoil, expected):
    _, lines = export()
    named = [(trail if stream == "A" else stream, sequence, reason) for stream, sequence, reason in expected]
    assert broken_in(spoil(lines)) == named


def test_what_was_exported_is_removed_and_a_checkpoint_stands_for_it(trail, agreement):
    exported, lines = export()
    assert archive.remove(exported, now=NOW) == 5
    left = AuditEvent.objects.filter(stream=trail).order_by("sequence")
    assert list(left.values_list("sequence", flat=True)) == [4, 5]
    checkpoint = AuditCheckpoint.objects.get(stream=trail)
    assert (checkpoint.sequence, checkpoint.removed) == (3, 3)
    assert [checkpoint.sequence, checkpoint.mac] == json.loads(lines[-1])["heads"][trail]
    removal = AuditEvent.objects.get(action="links_removed")
    assert (removal.stream, removal.sequence, removal.data["links"]) == ("system", 3, 5), "It goes on."
    assert found() == []
    write(agreement, at=NOW)
    assert found() == []


def test_the_next_export_begins_where_the_last_one_ended(trail):
    archive.remove(export()[0], now=NOW)
    later = NOW + timedelta(days=500)
    exported, lines = export(NOW + timedelta(days=1))
    first = json.loads(lines[0])
    assert (first["stream"], first["sequence"]) == (trail, 4)
    assert json.loads(lines[-1])["begins"][trail][0] == 3
    assert broken_in(lines) == []
    assert broken_in(lines[1:]) == [(trail, 4, "is missing")]
    with pytest.raises(Exception, match="audit_event_append_only"), transaction.atomic():
        archive.remove(exported, now=later)  # the database's clock knows better
    assert found() == []


def test_a_second_export_of_the_same_time_removes_nothing(trail):
    exported, _ = export()
    archive.remove(exported, now=NOW)
    assert archive.remove(export()[0], now=NOW) == 0
    assert AuditCheckpoint.objects.filter(stream=trail).count() == 1


def test_links_younger_than_a_year_are_not_removed_whatever_the_setting_says(trail, settings):
    settings.AUDIT_KEPT_FOR = timedelta(days=1)
    with pytest.raises(archive.TooYoung):
        archive.remove(export(NOW - timedelta(days=300))[0], now=NOW)
    settings.AUDIT_KEPT_FOR = timedelta(days=500)
    with pytest.raises(archive.TooYoung):
        archive.remove(export(UNTIL)[0], now=NOW)
    assert not AuditCheckpoint.objects.exists()


def test_a_broken_chain_is_evidence_and_stays(trail):
    tamper("UPDATE {link} SET action = 'other' WHERE sequence = 2 AND stream = %s", trail)
    exported, lines = export()
    assert [(link.stream, link.sequence) for link in exported.broken] == [(trail, 2)]
    assert archive.remove(exported, now=NOW) == 2, "Those of the site."
    assert AuditEvent.objects.filter(stream=trail).count() == 5
    assert broken_in(lines) == [(trail, 2, "was changed")]


TAMPERINGS = [
    ("UPDATE {checkpoint} SET sequence = 4 WHERE stream = %s", 4, "the checkpoint was changed"),
    ("UPDATE {checkpoint} SET mac = 'f' WHERE stream = %s", 3, "the checkpoint was changed"),
    ("UPDATE {checkpoint} SET removed = 1 WHERE stream = %s", 3, "the checkpoint was changed"),
    ("DELETE FROM {checkpoint} WHERE stream = %s", 1, "is missing"),
    ("DELETE FROM {link} WHERE sequence = 4 AND stream = %s", 4, "is missing"),
    ("DELETE FROM {link} WHERE sequence = 5 AND stream = %s", 5, "is missing"),
    ("DELETE FROM {link} WHERE stream = %s", 4, "is missing"),
    (
        "DELETE FROM {head} WHERE stream = %s",
        5,
        "is the last that is there, and the stream's head is missing",
    ),
]


@pytest.mark.parametrize(("sql", "sequence", "reason"), TAMPERINGS, ids=[each[0] for each in TAMPERINGS])
def test_behind_a_checkpoint_too_what_was_done_is_found(trail, sql, sequence, reason):
    archive.remove(export()[0], now=NOW)
    tamper(sql, trail)
    assert found() == [(trail, sequence, reason)]


def test_a_forged_checkpoint_lets_old_links_go_and_is_found(trail):
    """The trigger cannot know the key; verify does."""
    AuditCheckpoint.objects.create(stream=trail, sequence=2, mac="m", removed=2, made_at=NOW, seal="s")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM billing_auditevent WHERE sequence <= 2 AND stream = %s", [trail])
    assert found() == [(trail, 2, "the checkpoint was changed")]


def test_a_link_that_comes_back_after_its_removal_is_found(trail):
    first = AuditEvent.objects.get(stream=trail, sequence=1)
    archive.remove(export()[0], now=NOW)
    first.pk = None
    first.save(force_insert=True)
    assert found() == [(trail, 1, "was removed by an export and is there again")]


def test_a_stream_may_leave_whole(agreement):
    write(agreement, at=OLD)
    archive.remove(export()[0], now=NOW)
    assert not AuditEvent.objects.filter(stream=agreement.audit_stream).exists()
    assert found() == []
    assert write(agreement, at=NOW).sequence == 2
    assert found() == []
    head = AuditHead.objects.get(stream=agreement.audit_stream)
    tamper("DELETE FROM {checkpoint} WHERE stream = %s", head.stream)
    assert found() == [(head.stream, 1, "is missing")]


def test_heads_of_an_older_version_are_adopted_behind_a_checkpoint_too(trail):
    archive.remove(export()[0], now=NOW)
    tamper("DELETE FROM {head} WHERE stream = %s", trail)
    assert heads.adopt(now=NOW) == ([trail], [])
    assert found() == []


# --- The commands


def run(*arguments, **options):
    out, errors, code = io.StringIO(), io.StringIO(), 0
    try:
        call_command(*arguments, stdout=out, stderr=errors, **options)
    except SystemExit as error:
        code = error.code
    return code, out.getvalue(), errors.getvalue()


def test_verify_audit_says_that_all_is_whole(trail):
    code, out, _ = run("verify_audit")
    standing = heads.standing()
    assert code == 0
    assert out.splitlines() == [
        f"{standing.streams} streams, digest of their heads {standing.digest}.",
        "Every chain is whole.",
    ]


def test_verify_audit_names_the_row_and_exits_with_1(trail):
    tamper("DELETE FROM {link} WHERE sequence = 5 AND stream = %s", trail)
    code, out, _ = run("verify_audit")
    assert code == 1
    assert out.splitlines()[0] == f"BROKEN {trail} #5 is missing"
    assert out.splitlines()[-1] == "1 broken."
    assert run("verify_audit", "--stream", trail)[0] == 1
    assert run("verify_audit", "--stream", "staff")[0] == 0


def test_verify_audit_as_json(trail):
    code, out, _ = run("verify_audit", "--json")
    told = json.loads(out)
    assert (code, told["whole"], told["broken"]) == (0, True, [])
    assert told["links"] == AuditEvent.objects.count()
    tamper("DELETE FROM {link} WHERE sequence = 5 AND stream = %s", trail)
    code, out, _ = run("verify_audit", "--json", "--stream", trail)
    assert code == 1
    assert json.loads(out)["broken"] == [{"stream": trail, "sequence": 5, "reason": "is missing"}]


def test_verify_audit_adopts_when_asked(trail):
    tamper("DELETE FROM {head}")
    assert run("verify_audit")[0] == 1
    code, out, _ = run("verify_audit", "--adopt")
    assert code == 0
    assert out.startswith("Adopted the heads of ")


@pytest.mark.parametrize(
    "arguments", [("--stream", "agreement:999"), ("--file", "x", "--adopt"), ("--file", "/no/such/file")]
)
def test_verify_audit_refuses_what_it_cannot_use(trail, arguments):
    with pytest.raises(CommandError) as caught:
        run("verify_audit", *arguments)
    assert caught.value.returncode == 2


def test_a_year_later_the_trail_is_exported_removed_and_proved(trail, tmp_path):
    file = tmp_path / "audit.jsonl"
    code, out, errors = run("export_audit", "--until", f"{UNTIL:%Y-%m-%d}", "--out", str(file), "--remove")
    assert (code, out) == (0, "")
    assert errors.splitlines() == [f"5 links of 2 streams are in {file}.", "5 links are removed."]
    assert run("verify_audit", "--file", str(file)) == (0, "Every chain is whole.\n", "")
    assert run("verify_audit")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["audit.jsonl"]
    file.write_text(file.read_text().replace("h\\u00e9llo", "hello").replace("héllo", "hello"))
    code, out, _ = run("verify_audit", "--file", str(file))
    assert (code, out.splitlines()[0]) == (1, f"BROKEN {trail} #1 was changed")


def test_an_export_goes_to_standard_output_too(trail):
    code, out, _ = run("export_audit", "--until", f"{UNTIL:%Y-%m-%d}")
    assert code == 0
    assert broken_in(out.splitlines()) == []
    assert AuditEvent.objects.filter(stream=trail).count() == 5


def test_an_export_says_what_does_not_hold(trail):
    tamper("UPDATE {link} SET action = 'other' WHERE sequence = 2 AND stream = %s", trail)
    code, _, errors = run("export_audit", "--until", f"{UNTIL:%Y-%m-%d}")
    assert code == 1
    assert f"BROKEN {trail} #2 was changed" in errors


def test_an_export_is_refused_where_links_could_be_lost(trail, tmp_path):
    file = tmp_path / "there"
    file.write_text("mine")
    for arguments in (
        ("--until", f"{UNTIL:%Y-%m-%d}", "--remove"),
        ("--until", f"{NOW:%Y-%m-%d}", "--remove", "--out", str(tmp_path / "new")),
        ("--until", f"{UNTIL:%Y-%m-%d}", "--remove", "--out", str(file)),
        ("--until", f"{UNTIL:%Y-%m-%d}", "--remove", "--out", str(tmp_path / "no" / "folder")),
    ):
        with pytest.raises(CommandError) as caught:
            run("export_audit", *arguments)
        assert caught.value.returncode == 2
    assert file.read_text() == "mine"
    assert not AuditCheckpoint.objects.exists()


def test_a_setting_of_less_than_a_year_stops_the_start(settings):
    settings.AUDIT_KEPT_FOR = timedelta(days=364)
    with pytest.raises(Exception, match="billing.E006"):
        call_command("check")
