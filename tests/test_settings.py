"""The settings and what documents them say the same."""

import re

import pytest
from django.conf import settings

from tests import configuration_page


def test_env_example_lists_exactly_what_is_read():
    read = set(configuration_page.read_by_settings())
    listed = [each.name for each in configuration_page.listed_in_example()]
    assert len(read) > 20
    assert sorted(listed) == sorted(read | set(configuration_page.READ_BY_OTHERS))


def test_env_example_says_of_every_variable_what_it_is():
    assert [each.name for each in configuration_page.listed_in_example() if not each.words] == []


def test_the_configuration_page_is_current():
    page = configuration_page.PAGE.read_text()
    assert page == configuration_page.current(page), "run `make docs`"


def test_the_address_of_the_simulator_in_env_example_is_the_port_it_is_started_on():
    text = (settings.BASE_DIR / ".env.example").read_text()
    (port,) = re.findall(r"^SIMULATOR_PORT=(\d+)$", text, re.MULTILINE)
    addresses = re.findall(r"=http://127\.0\.0\.1:(\d+)", text)
    assert addresses == [port] * 7


@pytest.mark.django_db  # Celery runs Django's checks, which on 6.1 ask SQLite what it can do
def test_every_task_that_beat_rings_exists():
    from marketplace_saas import celery_app

    celery_app.loader.import_default_modules()
    rung = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    assert rung <= set(celery_app.tasks)
    assert all(entry["options"]["expires"] for entry in settings.CELERY_BEAT_SCHEDULE.values())
