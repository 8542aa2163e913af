"""The settings and what documents them say the same."""

import re

from django.conf import settings

READ_BY_OTHERS = {
    "WEB_PORT",  # Procfile
    "SIMULATOR_PORT",  # Procfile
    "AWS_ENDPOINT_URL_MARKETPLACE_METERING",  # botocore, as the rest
    "AWS_ENDPOINT_URL_MARKETPLACE_ENTITLEMENT_SERVICE",
    "AWS_ENDPOINT_URL_MARKETPLACE_AGREEMENT",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
}


def test_env_example_lists_exactly_what_is_read():
    source = (settings.BASE_DIR / "marketplace_saas/settings.py").read_text()
    read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', source))
    listed = set(re.findall(r"^#?([A-Z_]+)=", (settings.BASE_DIR / ".env.example").read_text(), re.MULTILINE))
    assert len(read) > 20
    assert read - listed == set()
    assert listed - read == READ_BY_OTHERS


def test_the_address_of_the_simulator_in_env_example_is_the_port_it_is_started_on():
    text = (settings.BASE_DIR / ".env.example").read_text()
    (port,) = re.findall(r"^SIMULATOR_PORT=(\d+)$", text, re.MULTILINE)
    addresses = re.findall(r"=http://127\.0\.0\.1:(\d+)", text)
    assert addresses == [port] * 5


def test_every_task_that_beat_rings_exists():
    from marketplace_saas import celery_app

    celery_app.loader.import_default_modules()
    rung = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    assert rung <= set(celery_app.tasks)
    assert all(entry["options"]["expires"] for entry in settings.CELERY_BEAT_SCHEDULE.values())
