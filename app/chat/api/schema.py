"""The OpenAPI document: what drf-spectacular reads off the views, with the answers' schemas from their structs."""

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse
from msgspec import Struct

from chat.api.representation import Problem, components
from chat.api.serializers import Content, Text, Upload
from chat.protocol import MAX_CONTENT

PROBLEM = {"$ref": f"#/components/schemas/{Problem.__name__}"}
IS_TEXT = "x-text"
"""Marks, while the document is made, the schemas of text."""
STORABLE = r"^[^\u0000]*$"
"""Text that a database takes."""
FIELD_PROBLEMS = {
    "type": "object",
    "description": "The errors of each field.",
    "additionalProperties": {"type": "array", "items": {"type": "string"}},
}


def answers(
    data: type[Struct] | None, *, created: bool = False, named: bool = False, writes: bool = False
) -> dict[Any, Any]:
    """All that a call may answer.

    `created`: also 201; `named`: 404, because something is named; `writes`: what can be wrong with a body or a right.
    """
    found: dict[Any, Any] = {}
    if data is None and writes:
        found[204] = OpenApiResponse(description="Done.")
    elif data is not None:
        schema = {"$ref": f"#/components/schemas/{data.__name__}"}
        found[200] = OpenApiResponse(schema, description="As it is now.")
        if created:
            found[201] = OpenApiResponse(schema, description="New.")
    found[400] = OpenApiResponse({"anyOf": [PROBLEM, FIELD_PROBLEMS]}, description="It is not as it should be.")
    found[401] = OpenApiResponse(PROBLEM, description="Nobody is known to call: no token, or one that does not count.")
    found[429] = OpenApiResponse(PROBLEM, description="Too often; `Retry-After` says when to try again, in seconds.")
    found[503] = OpenApiResponse(PROBLEM, description="The database or the channel layer is away for a moment.")
    if named:
        found[404] = OpenApiResponse(PROBLEM, description="There is no such thing in the caller's rooms.")
    if writes:
        found[403] = OpenApiResponse(PROBLEM, description="The caller may not.")
        found[413] = OpenApiResponse(PROBLEM, description="The body or a file is too large.")
        found[415] = OpenApiResponse(PROBLEM, description="The body is in none of the three encodings.")
    return found


def add_components(result: dict[str, Any], **_options: Any) -> dict[str, Any]:
    """Complete the document with the structs' schemas and the pattern of text (a hook of drf-spectacular)."""
    _add_patterns(result)
    result["components"]["schemas"] |= components()
    return result


def _add_patterns(node: Any) -> None:
    if isinstance(node, dict):
        if node.pop(IS_TEXT, False):
            node["pattern"] = STORABLE
        for value in node.values():
            _add_patterns(value)
    elif isinstance(node, list):
        for value in node:
            _add_patterns(value)


class TextSchema(OpenApiSerializerFieldExtension):
    """How the document describes text: without NUL, and not empty where that is said."""

    target_class = Text
    match_subclasses = True

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        schema = auto_schema._map_serializer_field(self.target, direction, bypass_extensions=True)
        # Whether it may be null is added to what this returns, and so would be a second form for the empty string if
        # the pattern stood here already.
        schema |= {"type": "string", IS_TEXT: True}
        if isinstance(self.target, Content):
            schema["maxLength"] = MAX_CONTENT
        if not self.target.allow_blank:
            schema["minLength"] = 1
        return schema


class UploadSchema(OpenApiSerializerFieldExtension):
    """How the document describes a file of a multipart body."""

    target_class = Upload

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        return {"type": "string", "format": "binary"}
