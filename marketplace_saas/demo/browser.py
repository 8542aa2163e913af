"""A buyer's browser, as far as the demo needs one: pages, cookies, forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import requests

TIMEOUT_SECONDS = 30


class PageProblem(Exception):
    """A page was not what the story expects; the message says what was there instead."""


@dataclass(slots=True)
class Form:
    action: str
    method: str = "get"
    fields: dict[str, str] = field(default_factory=dict)
    text: str = ""


@dataclass(slots=True)
class Link:
    href: str
    text: str = ""


class _Page(HTMLParser):
    """Collects the links of a page, and its forms with the values a browser would send."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[Link] = []
        self._link: Link | None = None
        self._open: Form | None = None
        self._textarea: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in given:
            self._link = Link(given["href"])
            self.links.append(self._link)
        elif tag == "form":
            self._open = Form(given.get("action", ""), given.get("method", "get").lower())
            self.forms.append(self._open)
        elif self._open is not None and "name" in given:
            chosen = given.get("type") not in ("radio", "checkbox") or "checked" in given
            if tag == "input" and chosen:
                self._open.fields[given["name"]] = given.get("value", "on")
            elif tag == "textarea":
                self._textarea = given["name"]
                self._open.fields[given["name"]] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._link = None
        elif tag == "form":
            self._open = None
        elif tag == "textarea":
            self._textarea = None

    def handle_data(self, data: str) -> None:
        if self._link is not None:
            self._link.text += data
        if self._open is None:
            return
        if self._textarea is not None:
            self._open.fields[self._textarea] += data
        self._open.text += data


class Browser:
    """One person's browser: follows redirects, keeps cookies, submits what forms hold."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no business between this machine and itself
        self.url = ""
        self.text = ""
        self.status = 0

    def open(self, url: str) -> None:
        self._take(self._session.get(urljoin(self.url, url), timeout=TIMEOUT_SECONDS))

    def follow(self, words: str) -> None:
        """Open the page's first link that says ``words``."""
        for link in self._read().links:
            if words in link.text:
                return self.open(link.href)
        raise PageProblem(f"{self.where} has no link {words!r}.")

    def submit(self, having: str, **values: str) -> None:
        """Send the page's first form that has the field (or says the words) ``having``, with ``values``."""
        for form in self.forms():
            if having in form.fields or having in form.text:
                break
        else:
            raise PageProblem(f"{self.where} has no form with {having!r}.")
        self._take(
            self._session.request(
                form.method,
                urljoin(self.url, form.action),
                data={**form.fields, **{name.replace("__", "-"): value for name, value in values.items()}},
                # Django's CSRF check wants to know which page a secure form was on; browsers say so.
                headers={"Referer": self.url},
                timeout=TIMEOUT_SECONDS,
            )
        )

    def forms(self) -> list[Form]:
        return self._read().forms

    def _read(self) -> _Page:
        page = _Page()
        page.feed(self.text)
        return page

    def expect(self, words: str) -> None:
        if words not in unescape(self.text):
            raise PageProblem(f"{self.where} does not say {words!r}.")

    @property
    def where(self) -> str:
        return f"The page {urlsplit(self.url).path} (status {self.status})"

    def _take(self, response: requests.Response) -> None:
        self.url, self.text, self.status = response.url, response.text, response.status_code
        if self.status >= 500:
            raise PageProblem(f"{self.where} failed.")
