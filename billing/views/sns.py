"""Where AWS SNS may post its notifications."""

from __future__ import annotations

import logging

from cryptography.x509.verification import Store
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from billing import tasks
from billing.aws.sns_signature import Fetch, download
from billing.inbox import sns_endpoint

logger = logging.getLogger(__name__)


@csrf_exempt  # posted by AWS SNS, which cannot know our CSRF token: its signature is verified instead
@never_cache
def sns(request: HttpRequest, *, fetch: Fetch = download, roots: Store | None = None) -> HttpResponse:
    """SNS's notifications over HTTPS. While SNS_ENDPOINT_TOPICS is empty there is no such address."""
    if not settings.SNS_ENDPOINT_TOPICS:
        raise Http404
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    topics = settings.SNS_ENDPOINT_TOPICS
    try:
        is_stored = sns_endpoint.receive(
            request.body, topics=topics, now=timezone.now(), fetch=fetch, roots=roots
        )
    except sns_endpoint.Refused as refused:
        logger.warning("Refused what was posted to the SNS endpoint. %s", refused)
        return HttpResponse(status=403)
    except sns_endpoint.Unreachable as error:
        logger.warning("What was posted to the SNS endpoint must come again. %s", error)
        return HttpResponse(status=503)
    if is_stored:
        tasks.ring(tasks.apply_events)
    return HttpResponse()
