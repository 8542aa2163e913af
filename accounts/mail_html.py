"""The HTML of a mail, made from its text: templates/emails/layout.html lays out what is found here.

What a text may hold: paragraphs; lists, whose lines begin with "- " or "1. "; a line that ends with ":" and
after it one that is only a URL, which become a button; a code alone in its paragraph; "-- " and a signature.
Only our own addresses become links: what strangers write stands in our mails too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, repeat
from typing import Any, Literal

from django.conf import settings
from django.template.loader import render_to_string

_EMPTY_LINES = re.compile(r"\n(?:[ \t]*\n)+")
_LINK = re.compile(
    r"https?://[^\s<>\"]*[^\s<>\".,;:!?()\[\]{}’”']|(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"
)
_ONLY_A_URL = re.compile(r"https?://[^\s<>\"]+")
_AWS = ("https://aws.amazon.com", "https://console.aws.amazon.com")
_CODE = re.compile(r"[A-Z0-9]{2,12}(?:-[A-Z0-9]{2,12}){1,3}")
_ITEM = re.compile(r"(?:-|\d{1,3}\.) (.*)")
_END_OF_SENTENCE = re.compile(r"(?<=[.!?]) +")
_LONGEST_LABEL = 70  # of a button: longer words stay a paragraph, above the plain link

Line = list[tuple[str, str]]  # pieces of text, each with the address it links to, or ''


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph has ``lines``, a list ``items``, a code ``text``, and a button to ``url`` too.

    The first button of a mail is its "button"; further ones are "links" that stand back.
    """

    kind: Literal["paragraph", "bullets", "numbers", "code", "button", "link"]
    lines: Sequence[Line] = ()
    items: Sequence[Sequence[Block]] = ()
    text: str = ""
    url: str = ""


def page(text: str, *, subject: str) -> str:
    body, _, signature = text.partition("\n-- \n")
    context = {
        "subject": subject,
        "blocks": _with_one_button(blocks_of(body), ranks=chain(["button"], repeat("link"))),
        "signature": _lines(signature.splitlines()),
    }
    return render_to_string("emails/layout.html", context)


def _with_one_button(blocks: Iterable[Block], *, ranks: Iterator[Any]) -> list[Block]:
    return [
        replace(
            block,
            kind=next(ranks) if block.kind == "button" else block.kind,
            items=[_with_one_button(item, ranks=ranks) for item in block.items],
        )
        for block in blocks
    ]


def blocks_of(text: str) -> Iterator[Block]:
    paragraphs = [each.split("\n") for each in _EMPTY_LINES.split(text.strip("\n"))]
    while paragraphs:
        lines = paragraphs.pop(0)
        if _announces_a_link(lines[-1]) and paragraphs and _is_a_url(paragraphs[0][0]):
            lines += paragraphs.pop(0)  # the empty line between them is for those who read the text
        if len(lines) == 1 and _CODE.fullmatch(lines[0].strip()):
            yield Block("code", text=lines[0].strip())
        else:
            yield from _paragraph(lines)


def _paragraph(lines: list[str]) -> Iterator[Block]:
    """Lists stand in the middle of a paragraph too; the indented lines after an item belong to it."""
    kinds: list[str] = []
    for line in lines:
        if _ITEM.fullmatch(line):
            kinds.append("bullets" if line.startswith("-") else "numbers")
        elif line.startswith(" ") and kinds:
            kinds.append(kinds[-1])
        else:
            kinds.append("words")
    for kind, group in groupby(zip(kinds, lines, strict=True), key=lambda each: each[0]):
        found = [line for _, line in group]
        if kind == "words":
            yield from _words(found)
        else:
            items = tuple(list(_words(item)) for item in _items(found))
            yield Block("bullets" if kind == "bullets" else "numbers", items=items)


def _items(lines: list[str]) -> list[list[str]]:
    items: list[list[str]] = []
    for line in lines:
        if (found := _ITEM.fullmatch(line)) is not None:
            items.append([found[1]])
        else:
            items[-1].append(line)
    return items


def _words(lines: list[str]) -> Iterator[Block]:
    """Paragraphs, and the buttons between them. A button says the last sentence before its link."""
    said: list[str] = []
    for line in map(str.strip, lines):
        if not (said and _announces_a_link(said[-1]) and _is_a_url(line)):
            said.append(line)
            continue
        *before, label = _END_OF_SENTENCE.split(said[-1])
        if len(label) > _LONGEST_LABEL:
            said.append(line)
            continue
        said[-1:] = [" ".join(before)] if before else []
        if said:
            yield Block("paragraph", lines=_lines(said))
        yield Block("button", text=label.rstrip(":"), url=line)
        said = []
    if said:
        yield Block("paragraph", lines=_lines(said))


def _announces_a_link(line: str) -> bool:
    return line.rstrip().endswith(":")


def _is_a_url(line: str) -> bool:
    return _ONLY_A_URL.fullmatch(line.strip()) is not None and _is_ours(line.strip())


def _is_ours(address: str) -> bool:
    """Whether it leads to us, to AWS or to the seller's own pages. What else a mail names is text."""
    if "://" not in address:
        return address.lower() == settings.SUPPORT_EMAIL.lower()
    places = (
        settings.SITE_URL,
        settings.MARKETPLACE_LISTING_URL,
        settings.TERMS_URL,
        settings.PRIVACY_URL,
        *_AWS,
    )
    return any(
        address == place or address.startswith((f"{place.rstrip('/')}/", f"{place}?", f"{place}#"))
        for place in places
        if place
    )


def _lines(lines: Sequence[str]) -> list[Line]:
    return [list(_pieces(line)) for line in lines]


def _pieces(line: str) -> Iterator[tuple[str, str]]:
    done = 0
    for link in _LINK.finditer(line):
        if _is_ours(link[0]):
            yield line[done : link.start()], ""
            yield link[0], link[0] if "://" in link[0] else f"mailto:{link[0]}"
            done = link.end()
    yield line[done:], ""
