"""A mail's HTML says what its text says, and nothing in a name can make it say more."""

from __future__ import annotations

import re
import time
from html import unescape
from html.parser import HTMLParser

import pytest
from django.core import mail as outbox
from django.utils import translation

from accounts import mail
from accounts.mail_html import blocks_of

VOID = {"meta", "br"}


class Checked(HTMLParser):
    """Every element that is opened is closed, in order; collects text, addresses, styles and all tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.hrefs: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        values = dict(attrs)
        assert len(values) == len(attrs), "an attribute twice"
        assert not [name for name in values if name.startswith("on") or name in ("src", "srcset")]
        assert "url(" not in (values.get("style") or "")
        if tag == "a":
            self.hrefs.append(values["href"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


def checked(html: str) -> Checked:
    parser = Checked()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    assert not parser.tags & {"script", "img", "link", "iframe", "form", "object", "svg"}
    assert len(html) < 100_000
    return parser


def html_of(text: str, subject: str = "Subject") -> str:
    return mail.html_of(text, subject=subject)


def kinds(text: str) -> list[str]:
    return [block.kind for block in blocks_of(text)]


def test_paragraphs_keep_their_lines():
    page = html_of("Hello!\n\nOne\nTwo\n\nThree")

    checked(page)
    assert kinds("Hello!\n\nOne\nTwo\n\nThree") == ["paragraph"] * 3
    assert "One<br>Two" in page


@pytest.fixture(autouse=True)
def our_places(settings):
    settings.SITE_URL = "https://app.example"
    settings.SUPPORT_EMAIL = "help@a.example"
    settings.TERMS_URL = "https://a.example/terms"
    settings.PRIVACY_URL = ""
    settings.MARKETPLACE_LISTING_URL = "https://listing.example/pp/prodview-x"


def test_a_line_that_announces_a_link_becomes_a_button():
    page = html_of("Open your workspace:\nhttps://app.example/o/acme/\n")

    assert checked(page).hrefs == ["https://app.example/o/acme/"]
    assert re.search(r"<a class=\"button\"[^>]*>Open your workspace</a>", page)


def test_an_empty_line_before_the_link_does_no_harm():
    assert kinds("Sign in:\n\nhttps://app.example/\n\nThen rest.") == ["button", "paragraph"]


def test_only_the_first_button_of_a_mail_stands_out():
    page = html_of(
        "1. A:\n   https://app.example/a\n2. B:\n   https://app.example/b\n\nC:\nhttps://app.example/c"
    )

    assert checked(page).hrefs == [f"https://app.example/{name}" for name in "abc"]
    assert (page.count('class="button"'), page.count('class="more"')) == (1, 2)


def test_a_button_says_the_last_sentence_and_leaves_the_rest_a_paragraph():
    paragraph, button = blocks_of("Was this not intended? Subscribe again:\nhttps://aws.amazon.com/x")

    assert paragraph.lines == [[("Was this not intended?", "")]]
    assert (button.text, button.url) == ("Subscribe again", "https://aws.amazon.com/x")


def test_words_too_long_for_a_button_stay_words_above_a_plain_link():
    text = f"{'Long words ' * 10}:\nhttps://aws.amazon.com/x"

    assert kinds(text) == ["paragraph"]
    assert checked(html_of(text)).hrefs == ["https://aws.amazon.com/x"]


def test_lists_hold_what_is_indented_below_their_items_buttons_too():
    text = "Next:\n\n1. Wait.\n2. Open it:\n   https://app.example/\n3. More\n   and more\n\n- one\n- two"

    numbers = list(blocks_of(text))[1]

    assert kinds(text) == ["paragraph", "numbers", "bullets"]
    assert [[block.kind for block in item] for item in numbers.items] == [
        ["paragraph"],
        ["button"],
        ["paragraph"],
    ]
    page = html_of(text)
    checked(page)
    assert page.count("<li ") == 5
    assert "More<br>and more" in page


def test_a_list_may_follow_words_without_an_empty_line():
    assert kinds("In force:\n- one\n- two\nDone.") == ["paragraph", "bullets", "paragraph"]


def test_a_code_alone_stands_out_and_within_a_sentence_does_not():
    assert kinds("Your code:\n\nK7P-WMX\n\nIt is good.") == ["paragraph", "code", "paragraph"]
    assert kinds("Your code is K7P-WMX") == kinds("K7P-WMX\nand more") == ["paragraph"]


def test_addresses_are_links_without_the_sentence_around_them():
    page = checked(html_of("See https://app.example/b?c=1&d=2, or write to help@a.example. Thanks."))

    assert page.hrefs == ["https://app.example/b?c=1&d=2", "mailto:help@a.example"]
    assert "See https://app.example/b?c=1&d=2, or write to help@a.example. Thanks." in page.text


@pytest.mark.parametrize(
    "address",
    [
        "https://app.example",
        "https://app.example/o/acme/?a=b#c",
        "https://listing.example/pp/prodview-x",
        "https://a.example/terms",
        "https://a.example/terms#privacy",
        "https://console.aws.amazon.com/marketplace/home#/subscriptions",
        "https://aws.amazon.com/marketplace/search/results?searchTerms=saas",
    ],
)
def test_what_is_ours_or_aws_s_is_a_link_and_a_button(address):
    assert checked(html_of(f"Go to {address} now.")).hrefs == [address]
    assert kinds(f"Go on:\n{address}") == ["button"]


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/login",
        "http://app.example/",  # not by the way that we came
        "https://app.example.evil.example/",
        "https://app.example@evil.example/",
        "https://app.example:pw@evil.example/",
        "https://app.example\\@evil.example/",
        "https://app.exampleevil/",
        "https://evil.example/https://app.example/",
        "https://a.example/",  # the terms are there, and who knows what else
        "https://a.example/terms-of-mine",
        "https://aws.amazon.com.evil.example/",
        "https://bucket.s3.amazonaws.com/evil.html",
        "charlie@evil.example",
        "help@a.example.evil.example",
    ],
)
def test_what_leads_elsewhere_is_text(address):
    page = checked(html_of(f"From “{address}”: go to {address} now.\n\nGo on:\n{address}\n\n-- \n{address}"))

    assert page.hrefs == []
    assert page.text.count(address) == 4


def test_the_signature_is_a_footer():
    page = html_of("Hello!\n\n-- \nAcme\nWrite to help@a.example.\n")

    assert checked(page).hrefs == ["mailto:help@a.example"]
    assert "-- " not in page
    assert '<td class="muted"' in page


NAMES = [
    "<b>bold</b>",
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "https://evil.example/\"><img src='https://evil.example/x'>",
    "javascript:alert(1)",
    "{{ settings }}{% now 'Y' %}",
    "مساحة العمل",
    "\u202eevil\u202c 🚀👩‍👩‍👧",
    "&amp; &lt;b&gt;",
    "x" * 10_000,
    "a.b-" * 2_500 + "@",
    "https://" * 1_000,
    "1. - -- :",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_only_ever_text(name):
    text = f"It is set up for “{name}”.\n\n- {name}\n\nOpen {name}:\nhttps://app.example/\n\n-- \n{name}\n"
    began = time.perf_counter()

    page = checked(html_of(text, subject=name))

    assert time.perf_counter() - began < 1
    assert page.text.count(name) >= 4
    assert page.hrefs == ["https://app.example/"]


def test_the_page_says_its_language_and_knows_dark_screens():
    with translation.override("ko"):
        assert '<html lang="ko">' in html_of("안녕하세요")
    page = html_of("Hello!")
    assert '<html lang="en">' in page
    assert '<meta name="color-scheme" content="light dark">' in page
    assert "prefers-color-scheme: dark" in page


def test_text_from_right_to_left_finds_its_own_side():
    assert html_of("مرحبا").count('dir="auto"') == 1


def test_the_html_of_an_ordinary_mail_is_small():
    assert len(html_of("Hello!\n\n" + "A sentence of a mail. " * 20)) < 5_000


def test_a_letter_is_sent_as_text_and_as_html():
    letter = mail.Composed("Subject", "Hello!\n", html_of("Hello!\n"))

    mail.send(letter, to="ada@acme.example", reply_to="help@a.example", headers={"Message-ID": "<1@x>"})

    [sent] = outbox.outbox
    assert (sent.to, sent.reply_to, sent.body) == (["ada@acme.example"], ["help@a.example"], "Hello!\n")
    assert [(part[1], part[0]) for part in sent.alternatives] == [("text/html", letter.html)]
    assert sent.extra_headers == {"Auto-Submitted": "auto-generated", "Message-ID": "<1@x>"}
    assert unescape(sent.message().get_payload(1).get_payload(decode=True).decode()) == unescape(letter.html)
