"""The home page, which a fork replaces with its own, and the pages for what went wrong."""

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseServerError
from django.shortcuts import render
from django.template.loader import render_to_string

from marketplace_saas.context import site


def home(request: HttpRequest) -> HttpResponse:
    return render(request, "home.html")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Without the request's context: what is bad may be the host name or a cookie, before there is a user."""
    return HttpResponseBadRequest(render_to_string("400.html", site(request)))


def server_error(request: HttpRequest) -> HttpResponse:
    """Without the request's context: whatever broke may be in a context processor."""
    return HttpResponseServerError(render_to_string("500.html", site(request)))
