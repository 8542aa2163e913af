"""AWS's checklist before a listing goes public, with what our data proves and what the seller has yet to do.

The points are those of docs/aws-marketplace.md §2 and §5, which name AWS's pages. A box is ticked only by a
row in the database; what nobody but the seller can say stays open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from django.conf import settings
from django.urls import reverse

from billing.doctor import evidence
from billing.doctor.findings import Finding, Verdict
from billing.models import Product

# What the kit does on every page of this kind: the file that says how, and the test that holds it.
_BUILT_IN = (
    (
        "The landing page answers GET with 200, resolves a POST at once, and carries no token on",
        "docs/onboarding.md",
    ),
    (
        "Buyers may create an account or sign in with one they have; any e-mail address is taken",
        "docs/onboarding.md",
    ),
    (
        "Incomplete and repeated registrations lose nothing, and a second purchase is a second one",
        "docs/onboarding.md",
    ),
    ("The support address stands on the landing page and in every failure", "docs/onboarding.md"),
    ("Subscription status, contract and usage are shown inside the app", "docs/lifecycle.md"),
    ("A mail with the next steps confirms the registration", "docs/onboarding.md"),
    ("Each workspace sees its own data only", "docs/threat-model.md"),
    ("No page asks for a card or a bank account", "docs/threat-model.md"),
    (
        "The audit trail is kept for a year and more, and shows when somebody has changed it",
        "docs/threat-model.md",
    ),
)
_SELLERS = (
    "At least one dimension is priced above 0, unless the product is free.",
    "Everything that is billed, is billed through dimensions of the listing.",
    "The product leads nobody to another cloud to buy more there.",
    "Data is encrypted in transit and at rest: the database, its backups, and the queue.",
    "Data of buyers is deleted as the EULA promises.",
    "If access is given by hand, the landing page says so, and how long it takes.",
    "An English view of the product exists.",
    "Test purchases that bill by use are cancelled before the listing goes public.",
)


def report(found: Sequence[tuple[str, Finding]], *, now: datetime) -> str:
    return "\n".join([*_head(found, now), *_test_paths(), *_guidelines(), *_doctor(found)]) + "\n"


def _head(found: Sequence[tuple[str, Finding]], now: datetime) -> Iterator[str]:
    failed = sum(finding.verdict is Verdict.FAILED for _, finding in found)
    yield f"# {_plain(settings.SITE_NAME)}: ready for AWS Marketplace's review?"
    yield ""
    yield f"Written on {now:%Y-%m-%d at %H:%M} UTC by `manage.py marketplace_doctor --report`. A box that is"
    yield "ticked is proved by data of this installation; an open one is the seller's."
    yield ""
    yield f"- Fulfillment URL: `{settings.SITE_URL}{reverse('billing:register')}`"
    yield f"- Support: {_plain(settings.SUPPORT_EMAIL)}"
    yield f"- Doctor: {failed or 'nothing'} to mend{', see the end' if failed else ''}"


def _test_paths() -> Iterator[str]:
    products = Product.objects.order_by("pk")
    for product in products:
        yield ""
        yield f"## {_plain(product.title)} (`{product.code}`, {product.get_pricing_display().lower()})"
        yield ""
        for step in evidence.of(product):
            yield _box(step.text, step.proof, step.todo)
        running = evidence.running_tests(product)
        if running:
            yield f"- [ ] {running} active: cancel what was a test before the listing goes public."
    if not products:
        yield ""
        yield "No product is in the catalog: `manage.py load_catalog`."


def _guidelines() -> Iterator[str]:
    yield ""
    yield "## AWS's guidelines for SaaS products"
    yield ""
    yield "Built in, and held by tests:"
    yield ""
    for text, where in _BUILT_IN:
        yield f"- {text} ({where})."
    yield ""
    yield "To be confirmed by the seller:"
    yield ""
    for text in _SELLERS:
        yield f"- [ ] {text}"
    for name, value in (("TERMS_URL", settings.TERMS_URL), ("PRIVACY_URL", settings.PRIVACY_URL)):
        if not value:
            yield f"- [ ] {name} is empty: pages link to no such text."


def _doctor(found: Sequence[tuple[str, Finding]]) -> Iterator[str]:
    shown = ""
    yield ""
    yield "## What the doctor found"
    for title, finding in found:
        if title != shown:
            yield ""
            yield f"### {title}"
            yield ""
            shown = title
        yield f"- {finding.verdict.sign} {_plain(finding.text)}"
        if finding.cause:
            yield f"  - Cause: {_plain(finding.cause)}"
        if finding.fix:
            yield f"  - Fix: {_plain(finding.fix)}"


def _box(text: str, proof: str, todo: str) -> str:
    return f"- [x] {text}: {_plain(proof)}" if proof else f"- [ ] {text}. {todo}"


def _plain(text: str) -> str:
    """No text from elsewhere becomes markup, a link or a line of its own."""
    text = " ".join(text.split())
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return text
