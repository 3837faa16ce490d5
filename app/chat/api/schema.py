"""The OpenAPI document: what drf-spectacular reads off the views, with the answers' schemas from their structs."""

from typing import Any

from drf_spectacular.utils import OpenApiResponse
from msgspec import Struct

from chat.api.representation import Problem, components

PROBLEM = {"$ref": f"#/components/schemas/{Problem.__name__}"}
FIELD_PROBLEMS = {
    "type": "object",
    "description": "The errors of each field.",
    "additionalProperties": {},
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
    """Put the structs' schemas into the document (a postprocessing hook of drf-spectacular)."""
    result["components"]["schemas"] |= components()
    return result
