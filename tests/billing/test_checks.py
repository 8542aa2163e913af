"""Mistakes in the settings are found before they cost anything."""

from django.core.checks import run_checks


def ids():
    return {message.id for message in run_checks() if (message.id or "").startswith("billing.")}


def test_the_projects_own_features_are_well_formed():
    assert ids() == set()


def test_a_misspelled_key_is_an_error(settings):
    settings.FEATURES = {"reports": {"dimensions": ["pages"], "product": ["reports-payg"]}}
    assert ids() == {"billing.E002"}


def test_a_feature_that_nothing_grants_is_an_error(settings):
    settings.FEATURES = {"reports": {"quota": "pages"}}
    assert ids() == {"billing.E003"}
