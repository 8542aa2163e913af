"""Korean is complete: nothing is missing, half done or stale, and every page speaks it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from babel.messages import Catalog, Message
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.conf import settings
from django.utils import formats, translation

from tests.plugin import PASSWORD
from tests.test_pages import ANONYMOUS, NOW, SIGNED_IN

ROOT = settings.BASE_DIR
PO = ROOT / "marketplace_saas/locale/ko/LC_MESSAGES/django.po"
SOURCES = ("accounts", "billing", "marketplace_saas", "templates")
HANGUL = re.compile(r"[가-힣]")
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}")


def catalog_of(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, abort_invalid=True)


def messages(catalog: Catalog) -> Iterator[Message]:
    return (message for message in catalog if message.id)


def forms(text: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text)


def key(message: Message) -> tuple[str | None, str]:
    context = message.context  # which Babel does not decode when it is compiled
    return context.decode() if isinstance(context, bytes) else context, forms(message.id)[0]


KOREAN = catalog_of(PO)
TRANSLATED = [each for each in messages(KOREAN) if all(forms(each.string)) and not each.fuzzy]


def test_every_string_of_the_sources_is_in_the_catalog_and_no_other(tmp_path):
    if shutil.which("xgettext") is None:
        pytest.skip("gettext is not installed (apt-get install gettext)")
    for name in SOURCES:
        leave_out = shutil.ignore_patterns("__pycache__", "static")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=leave_out)
    shutil.copy(ROOT / "manage.py", tmp_path)
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    arguments = re.search(r"^MAKEMESSAGES := (.+)$", makefile, re.MULTILINE)[1].split()
    environment = {**os.environ, "ENV_FILE": "", "DEBUG": "true", "DATA_DIR": str(tmp_path / "data")}
    environment.pop("DJANGO_SETTINGS_MODULE", None)

    command = [sys.executable, "manage.py", *arguments]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)

    fresh = {key(each) for each in messages(catalog_of(tmp_path / PO.relative_to(ROOT)))}
    known = {
        key(each)
        for each in messages(KOREAN)
        # A fork may have deleted the example product, and translates what is its own when it likes.
        if any((ROOT / file).exists() for file, _ in each.locations)
    }
    assert sorted(map(str, fresh - known)) == sorted(map(str, known - fresh)) == [], "run `make messages`"


def test_nothing_is_left_untranslated_or_guessed():
    undone = [key(each)[1] for each in messages(KOREAN) if each.fuzzy or not all(forms(each.string))]

    assert undone == []


def test_every_translation_fills_in_what_the_original_does():
    for message in TRANSLATED:
        expected = set(PLACEHOLDER.findall(forms(message.id)[-1]))
        for said in forms(message.string):
            assert set(PLACEHOLDER.findall(said)) == expected, said
            assert said.startswith("\n") == forms(message.id)[0].startswith("\n"), said
            assert said.endswith("\n") == forms(message.id)[0].endswith("\n"), said


def test_plurals_have_as_many_forms_as_korean_has():
    assert KOREAN.num_plurals == 1
    for message in TRANSLATED:
        if message.pluralizable:
            assert len(forms(message.string)) == 1, message.id


def test_translations_are_korean_and_keep_the_end_of_a_sentence():
    named = re.compile(r"[A-Z0-9][\w.-]*")  # brands and formats read the same
    for message in TRANSLATED:
        original = forms(message.id)[-1]
        for said in forms(message.string):
            words = PLACEHOLDER.sub("", said).split()
            assert HANGUL.search(said) or all(
                named.fullmatch(word) or not word.isalpha() for word in words
            ), said
            assert said.rstrip().endswith(":") == original.rstrip().endswith(":"), said


def test_what_is_compiled_is_what_is_written():
    with PO.with_suffix(".mo").open("rb") as file:
        compiled = read_mo(file)

    assert {key(each): forms(each.string) for each in messages(compiled)} == {
        key(each): forms(each.string) for each in TRANSLATED
    }, "run `make messages`"


class Texts(HTMLParser):
    """What a page says, in the language it is in: names of languages say theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.skipped = 0

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in ("script", "style", "code", "pre", "time") or (tag != "html" and "lang" in values):
            self.skipped += 1
        for name in ("aria-label", "title", "alt", "placeholder"):
            self.found.append(values.get(name) or "")

    def handle_endtag(self, tag):
        if tag in ("script", "style", "code", "pre", "time", "button") and self.skipped:
            self.skipped -= 1

    def handle_data(self, data):
        if not self.skipped:
            self.found.append(data)


# What reads the same in every language: names, addresses, and secrets to be typed.
NAMES = re.compile(
    r"AWS Marketplace|Amazon Web Services|Acme Reports|Acme|Ada|Reports( \w+)?|[\w.+-]+@[\w.-]+|https?://\S+"
    r"|\b[A-Z0-9]+\b|Google|GitHub|Microsoft|\w+/\w+"
)


def english_in(page: str) -> list[str]:
    """Texts without a word of Korean."""
    parser = Texts()
    parser.feed(page)
    texts = (" ".join(NAMES.sub("", text).split()) for text in parser.found if not HANGUL.search(text))
    return [text for text in texts if re.search(r"[A-Za-z]{3,}", text)]


@pytest.mark.parametrize("url", ANONYMOUS)
def test_pages_for_everyone_speak_the_language_of_the_browser(client, db, url):
    korean = client.get(url, headers={"Accept-Language": "ko-KR,ko;q=0.9,en;q=0.8"}, follow=True)
    other = client.get(url, headers={"Accept-Language": "fr"}, follow=True)

    assert '<html lang="ko">' in korean.content.decode()
    assert '<html lang="en">' in other.content.decode()
    assert english_in(korean.content.decode()) == []


@pytest.mark.parametrize("url", SIGNED_IN)
def test_pages_for_people_who_signed_in_do_too(client, acme, acme_admin, url):
    client.force_login(acme_admin)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})

    korean = client.get(url, headers={"Accept-Language": "ko"}, follow=True).content.decode()
    english = client.get(url, headers={"Accept-Language": "en"}, follow=True).content.decode()

    assert '<html lang="ko">' in korean
    assert '<html lang="en">' in english
    assert english_in(korean) == []


def test_dates_and_numbers_are_written_as_the_language_does():
    with translation.override("en"):
        assert formats.date_format(NOW, "DATETIME_FORMAT") == "23 November 2026, 09:30"
        assert formats.date_format(NOW, "DATE_FORMAT") == "23 November 2026"
        assert formats.number_format(1234567, use_l10n=True, force_grouping=True) == "1,234,567"
    with translation.override("ko"):
        assert formats.date_format(NOW, "DATETIME_FORMAT") == "2026년 11월 23일 09:30"
        assert formats.date_format(NOW, "DATE_FORMAT") == "2026년 11월 23일"
        assert formats.number_format(1234567, use_l10n=True, force_grouping=True) == "1,234,567"
