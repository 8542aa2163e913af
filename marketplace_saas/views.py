"""The home page, which a fork replaces with its own, and the page for what went wrong."""

from django.http import HttpRequest, HttpResponse, HttpResponseServerError
from django.shortcuts import render
from django.template.loader import render_to_string

from marketplace_saas.context import site


def home(request: HttpRequest) -> HttpResponse:
    return render(request, "home.html")


def server_error(request: HttpRequest) -> HttpResponse:
    """Without the request's context: whatever broke may be in a context processor."""
    return HttpResponseServerError(render_to_string("500.html", site(request)))
