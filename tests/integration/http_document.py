"""Real answers held against the OpenAPI document that the server publishes."""

import copy
import json
import re
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator


class HttpDocument:
    """Says of each answer whether the document describes it, to the last field."""

    def __init__(self, document):
        # A path without parameters is tried before one with.
        self._calls = [
            (method.upper(), _pattern(path), call)
            for path, calls in sorted(document["paths"].items(), key=lambda each: "{" in each[0])
            for method, call in calls.items()
            if method != "parameters"
        ]
        self._components = {"schemas": _closed(document["components"]["schemas"])}
        self._validators = {}

    def check(self, method, path, answer):
        """Fail unless the document describes this answer; addresses that it does not have answer 404 in JSON."""
        path = urlsplit(path).path
        if method == "OPTIONS":
            return
        known = [(verb, pattern, call) for verb, pattern, call in self._calls if pattern.fullmatch(path)]
        # Of several paths that fit, the first is the one that answers.
        call = next((call for verb, pattern, call in known if verb == method and pattern == known[0][1]), None)
        if not call:
            assert answer.status == (405 if known else 404), (answer.status, answer.body)
            return
        described = call["responses"].get(str(answer.status))
        assert described, f"{method} {path}: the document knows no {answer.status}: {answer.body!r}"
        if (content := described.get("content", {})) and "application/json" in content:
            schema = content["application/json"]["schema"]
            problems = [
                f"{error.json_path}: {error.message}"
                for error in self._validator(schema).iter_errors(json.loads(answer.body))
            ]
            assert not problems, f"{method} {path} {answer.status}: {'; '.join(problems)}"

    def _validator(self, schema):
        key = json.dumps(schema)
        if key not in self._validators:
            self._validators[key] = Draft202012Validator({**schema, "components": self._components})
        return self._validators[key]


def _pattern(path):
    """A path of the document as a regular expression."""
    return re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path))


def _closed(schemas):
    closed = copy.deepcopy(schemas)
    for schema in closed.values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return closed
