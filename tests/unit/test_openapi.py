"""The OpenAPI document is valid, and has every call of the HTTP API."""

import re

from django.core.management import call_command
from drf_spectacular.generators import SchemaGenerator

from chat.api import urls, views

METHODS = {"get", "post", "put", "patch", "delete"}


def calls_of_the_urls():
    """Every method and path below `/chats/` that a view answers to."""
    for pattern in urls.urlpatterns:
        view = pattern.callback.cls
        if view is not views.Nothing:
            path = re.sub(r"<[^>]+>", "{}", f"/chats/{pattern.pattern}")
            yield from ((method, path) for method in METHODS & set(view.http_method_names) if hasattr(view, method))


def test_the_document_is_valid(tmp_path):
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "openapi.yaml"))


def test_every_call_is_in_the_document():
    document = SchemaGenerator().get_schema(request=None, public=True)
    described = {
        (method, re.sub(r"{[^}]+}", "{}", path))
        for path, calls in document["paths"].items()
        for method in METHODS & calls.keys()
    }
    assert described == set(calls_of_the_urls())
    assert len(described) > 15


def test_marks_of_the_making_do_not_stay():
    assert "x-text" not in str(SchemaGenerator().get_schema(request=None, public=True))
