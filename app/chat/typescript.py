"""The events of the WebSocket as TypeScript declarations, made from the AsyncAPI document.

`salon-client`, the page and every frontend are checked against these; that the file in the tree is what this makes is
checked by a test.
"""

import json
from collections.abc import Iterator
from typing import Any

HEADER = (
    "// Made from the AsyncAPI document by `manage.py wire_types`. Change app/chat/protocol.py, and make it again.\n"
)
SCALARS = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}
REFERENCE = "#/components/schemas/"


def declarations(document: dict[str, Any]) -> str:
    """The text of `wire.d.ts`."""
    schemas = document["components"]["schemas"]
    parts = [HEADER, *(_declaration(name, schema) for name, schema in schemas.items())]
    for name, prefix in (("ClientEvent", "receive_"), ("ServerEvent", "send_")):
        events = [_event(document, operation) for operation in document["operations"] if operation.startswith(prefix)]
        parts.append(f"export type {name} = {' | '.join(events)};\n")
    parts.append(f"export type CloseCode = {' | '.join(document['x-close-codes'])};\n")
    return "\n".join(parts)


def _event(document: dict[str, Any], operation: str) -> str:
    (message,) = document["operations"][operation]["messages"]
    name = message["$ref"].rpartition("/")[2]
    return document["components"]["messages"][name]["payload"]["$ref"].removeprefix(REFERENCE)


def _declaration(name: str, schema: dict[str, Any]) -> str:
    comment = "".join(_comment(schema, ""))
    if "properties" not in schema:
        return f"{comment}export type {name} = {_type(schema)};\n"
    if not schema["properties"]:
        return f"{comment}export type {name} = Record<string, never>;\n"
    required = schema.get("required", ())
    lines = [f"{comment}export interface {name} {{\n"]
    for field, said in schema["properties"].items():
        lines += _comment(said, "  ")
        lines.append(f"  {field}{'' if field in required else '?'}: {_type(said)};\n")
    return "".join([*lines, "}\n"])


def _comment(schema: dict[str, Any], indent: str) -> Iterator[str]:
    if text := schema.get("description"):
        lines = text.splitlines()
        if len(lines) == 1:
            yield f"{indent}/** {text} */\n"
            return
        yield f"{indent}/**\n"
        for line in lines:
            yield f"{indent} * {line}".rstrip() + "\n"
        yield f"{indent} */\n"


def _type(schema: dict[str, Any]) -> str:
    if reference := schema.get("$ref"):
        return reference.removeprefix(REFERENCE)
    if values := schema.get("enum"):
        return " | ".join(json.dumps(value) for value in values)
    if choices := schema.get("anyOf"):
        return " | ".join(_type(choice) for choice in choices)
    if schema.get("type") == "array":
        return f"Array<{_type(schema['items'])}>"
    if schema.get("type") == "object":
        return "Record<string, unknown>"
    return SCALARS[schema["type"]]
