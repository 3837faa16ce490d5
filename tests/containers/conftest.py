"""The services of compose.yaml, started by `tests/containers/composed`."""

import pytest
from school import School
from target import deployed

from composition import Composition


@pytest.fixture(scope="session")
def composition():
    composition = Composition.of_environment()
    assert composition, "these tests are run by `make containers`"
    return composition


@pytest.fixture
def target(composition):
    """Each test has one of its own: what runs in a container ends with it."""
    with deployed(composition) as target:
        yield target


@pytest.fixture
def school(target):
    return School(target)
