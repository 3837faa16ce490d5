"""Real traffic held against the AsyncAPI document that the server publishes."""

import copy

from jsonschema import Draft202012Validator


class WireDocument:
    """Says of each frame whether the document describes it; its validators are made once.

    What a server sends must be described to the last field, and so its schemas are taken more strictly than they are
    written: a client of the future passes over what it does not know, this one does not.
    """

    def __init__(self, document):
        self.close_codes = {int(code) for code in document["x-close-codes"]}
        self._from_client = _validators(document, "receive", document["components"]["schemas"])
        self._from_server = _validators(document, "send", _closed(document["components"]["schemas"]))

    def check_sent(self, event):
        """Fail unless the document allows a client to send this event."""
        _check(self._from_client, event, "a client")

    def check_received(self, event):
        """Fail unless the document describes this event of the server, whole."""
        _check(self._from_server, event, "the server")

    def check_closed(self, code):
        """Fail unless the document says what the server means by closing with this code."""
        assert code in self.close_codes, f"the document does not say what the close code {code} means"


def _validators(document, action, schemas):
    """A validator for each event type of one direction."""
    channels, messages = document["channels"], document["components"]["messages"]
    found = {}
    for operation in document["operations"].values():
        if operation["action"] != action:
            continue
        for reference in operation["messages"]:
            _, _, channel, _, name = reference["$ref"].split("/")
            message = messages[channels[channel]["messages"][name]["$ref"].rpartition("/")[2]]
            found[message["name"]] = Draft202012Validator(
                {**message["payload"], "components": {"schemas": schemas}},
                format_checker=Draft202012Validator.FORMAT_CHECKER,
            )
    return found


def _closed(schemas):
    """The same schemas, in which an object with described fields has no others."""
    closed = copy.deepcopy(schemas)
    for schema in closed.values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return closed


def _check(validators, event, sender):
    kind = event.get("type")
    assert kind in list(validators), f"the document knows no event {kind!r} of {sender}"
    problems = [
        f"{'.'.join(map(str, error.absolute_path)) or 'event'}: {error.message}"
        for error in validators[kind].iter_errors(event)
    ]
    assert not problems, f"the document does not describe this {kind!r} event of {sender}: {'; '.join(problems)}"
