"""Real answers held against the OpenAPI document that the server publishes."""

import copy
import json
import re
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator

# Python reads no number of more digits than that.
PARAMETERS = {"integer": "[0-9]{1,4300}", "uuid": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"}
"""What stands for a parameter in a path, by its format or type."""


class HttpDocument:
    """Says of each answer whether the document describes it, to the last field."""

    def __init__(self, document):
        # A path without parameters is tried before one with.
        self._paths = [
            (_pattern(path, calls), {method.upper(): call for method, call in calls.items()})
            for path, calls in sorted(document["paths"].items(), key=lambda each: "{" in each[0])
        ]
        self._components = {"schemas": _closed(document["components"]["schemas"])}
        self._validators = {}

    def check(self, method, path, answer):
        """Fail unless the document describes this answer; addresses that it does not have answer 404 in JSON."""
        path = urlsplit(path).path
        if method == "OPTIONS":
            return
        if method == "HEAD":
            method = "GET"
        calls = next((calls for pattern, calls in self._paths if pattern.fullmatch(path)), {})
        if not (call := calls.get(method)):
            # Who calls is asked before what she calls; and both, whether the request can be read.
            allowed = (405, 400, 401, 429) if calls else (404, 400)
            assert answer.status in allowed, (answer.status, answer.body)
            return
        described = call["responses"].get(str(answer.status))
        assert described, f"{method} {path}: the document knows no {answer.status}: {answer.body!r}"
        if (content := described.get("content", {})) and "application/json" in content and answer.body:
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


def _pattern(path, calls):
    """A path of the document as a regular expression."""
    kinds = {
        each["name"]: each["schema"].get("format", each["schema"]["type"])
        for call in calls.values()
        for each in call.get("parameters", ())
        if each["in"] == "path"
    }
    return re.compile(re.sub(r"\{([^}]+)\}", lambda found: PARAMETERS.get(kinds[found[1]], "[^/]+"), path))


def _closed(schemas):
    closed = copy.deepcopy(schemas)
    for schema in closed.values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return closed
