"""The browsers and the server of tests/browser, with something on every screen."""

import pytest
from screens import populate

from browser.conftest import at_a_browser, chromium, room, server

__all__ = ["at_a_browser", "chromium", "room", "server"]


@pytest.fixture(scope="module")
def rooms(server):
    return populate(server)
