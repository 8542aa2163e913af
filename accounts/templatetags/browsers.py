"""What a browser says of itself, as a person would call it."""

from django import template
from django.utils.translation import gettext as _

register = template.Library()

# The first whose mark is there: nearly all of them also claim to be those further down.
_BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "Chrome/": "Chrome",
    "CriOS/": "Chrome",
    "Safari/": "Safari",
}
_SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}
_LONGEST = 80  # characters of one that is none of these


@register.filter
def browser(user_agent: str) -> str:
    name = next((name for mark, name in _BROWSERS.items() if mark in user_agent), "")
    system = next((system for mark, system in _SYSTEMS.items() if mark in user_agent), "")
    if name and system:
        return _("%(browser)s on %(system)s") % {"browser": name, "system": system}
    return user_agent[:_LONGEST] or _("Unknown browser")
