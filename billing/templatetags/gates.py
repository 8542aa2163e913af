"""`{% allowed "reports" as reports %}`: ask a gate in a template that has an ``organization``."""

from typing import Any

from django import template

from billing import gates
from billing.grants import Grant

register = template.Library()


@register.simple_tag(takes_context=True)
def allowed(context: dict[str, Any], feature: str) -> Grant:
    return gates.allows(context["organization"], feature)
