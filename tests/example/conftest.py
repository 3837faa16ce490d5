"""The browsers of tests/browser, and what `make run` starts."""

import pytest
from target import DEMO, salon

from browser.conftest import chromium

__all__ = ["chromium"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with salon(tmp_path_factory.mktemp("demo"), {}, command=DEMO) as target:
        yield target
