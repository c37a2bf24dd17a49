"""A job names the folders that the agent fills."""

from pathlib import PurePosixPath

import msgspec

from serai.cache_names import ENVIRONMENT_MARKER, ENVIRONMENTS
from serai_agent.cache.environments import image_recipe, recipe_of
from serai_scheduler.nomad.places import places_of
from serai_scheduler.nomad.settings import JobSettings
from tests.unit.nomad.values import predictor


def test_a_job_looks_where_the_agent_builds() -> None:
    version = predictor()
    content = version.content
    recipe = recipe_of(content.lock, content.python, content.runtime)
    settings = msgspec.structs.replace(JobSettings(), platform=recipe.platform)
    places = places_of(version, settings)
    home = PurePosixPath(settings.cache_dir) / ENVIRONMENTS / recipe.key
    assert PurePosixPath(places.environment) == home
    assert str(home / ENVIRONMENT_MARKER) in places.markers


def test_a_job_in_an_image_looks_for_another_environment() -> None:
    """Though the platform is the same, the node's Python is not the image's."""
    version = predictor()
    content = version.content
    settings = msgspec.structs.replace(JobSettings(), predictor_image="serai-predictor:1")
    parts = (content.lock, content.python, content.runtime)
    recipe = image_recipe(*parts, settings.platform)
    assert PurePosixPath(places_of(version, settings).environment).name == recipe.key
    assert places_of(version, JobSettings()).environment != places_of(version, settings).environment
