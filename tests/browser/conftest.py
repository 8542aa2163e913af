import pytest
from django.utils import timezone

from tests import tour as tours
from tests.browser_story import Buyer


@pytest.fixture
def tour(aws, acme, acme_admin, acme_member, make_user, live_server):
    return tours.build(
        aws,
        live_server.url,
        acme=acme,
        owner=acme_admin,
        member=acme_member,
        make_user=make_user,
        now=timezone.now(),
    )


@pytest.fixture
def buyer(aws, page, live_server):
    """One browser, on our site and AWS's. What happens at AWS has happened by our clock."""
    aws.simulator.state.change_conditions(fulfillment_url=f"{live_server.url}/marketplace/register/")
    aws.control.set_offset(-600)
    return Buyer(page, aws, live_server.url)


@pytest.fixture
def scriptless(chromium):
    """A page of a browser without JavaScript."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(10_000)
    yield page
    context.close()
