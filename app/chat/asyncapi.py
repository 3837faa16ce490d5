"""The WebSocket described for programs: an AsyncAPI 3.0 document, made from the code that enforces it.

Events, their fields, the error codes and the close codes are those of `chat.protocol`; what is said of them there is
said here. `receive` and `send` are the server's words: it receives what a client sends.
"""

import inspect
import re
from urllib.parse import urlsplit

import msgspec
from django.conf import settings
from msgspec import UNSET, Struct, structs

import salon
from chat import protocol
from chat.protocol import (
    AnyClientEvent,
    CloseCode,
    Error,
    ErrorCode,
    History,
    JoinRoom,
    Message,
    Ping,
    Pong,
    SendMessage,
    ServerEvent,
)

CHANNEL = "#/channels/chat"
CLIENT_EVENTS: tuple[type[Struct], ...] = AnyClientEvent.__args__
SERVER_EVENTS: tuple[type[Struct], ...] = ServerEvent.__args__
REPLIES: dict[type[Struct], tuple[type[Struct], ...]] = {
    JoinRoom: (History, Error),
    SendMessage: (Message, Error),
    Ping: (Pong, Error),
}
"""What comes back for what a client sends, where something does."""

SERVER_CLOSE_CODES = {
    1002: "A frame broke the WebSocket protocol (RFC 6455).",
    1007: "A text frame was not UTF-8.",
    1009: f"A frame was larger than {settings.MAX_FRAME_SIZE} bytes.",
}
"""What `salon.server` closes with by itself (RFC 6455, 7.4.1), before the chat sees the frame."""


def document() -> dict:
    """The document, ready for JSON."""
    events = (*CLIENT_EVENTS, *SERVER_EVENTS)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Salon",
            "version": salon.__version__,
            "description": "A realtime chat: one WebSocket serves one person and any number of her rooms.",
        },
        "defaultContentType": "application/json",
        "servers": {"salon": _server()},
        "channels": {"chat": _channel()},
        "operations": {
            **{f"receive_{_tag(event)}": _operation("receive", event) for event in CLIENT_EVENTS},
            **{f"send_{_tag(event)}": _operation("send", event) for event in SERVER_EVENTS},
        },
        "components": {
            "messages": {event.__name__: _message(event) for event in events},
            "schemas": _schemas(),
            "securitySchemes": _security_schemes(),
        },
        "x-error-codes": {code.value: code.meaning for code in ErrorCode},
        "x-close-codes": {str(code): meaning for code, meaning in _close_codes().items()},
    }


def _tag(event: type[Struct]) -> str:
    return event.__struct_config__.tag


def _server() -> dict:
    url = urlsplit(settings.PUBLIC_URL)
    return {
        "host": url.netloc,
        "protocol": "wss" if url.scheme == "https" else "ws",
        "description": (
            "Any one of these says who connects. Without one, an `auth` event with a token must come within "
            f"{settings.AUTH_TIMEOUT:g} seconds. A page of another origin must be allowed by SALON_ALLOWED_ORIGINS."
        ),
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _security_schemes()],
    }


def _security_schemes() -> dict:
    return {
        "query": {
            "type": "httpApiKey",
            "in": "query",
            "name": "token",
            "description": "A signed token (JWT) in the URL: what a page can do, which sets no headers.",
        },
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The same token in the `Authorization` header of the handshake.",
        },
        "session": {
            "type": "httpApiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "The session of somebody who has logged in to Salon's own page.",
        },
    }


def _channel() -> dict:
    codes = "\n".join(f"- {code}: {meaning}" for code, meaning in _close_codes().items())
    return {
        "address": "/ws/chat/",
        "title": "The chat",
        "description": (
            "Every frame is a text frame with one JSON object. "
            f"It has at most {settings.MAX_FRAME_SIZE} bytes where a client sends it.\n\n"
            "What a client sends may hold more fields than are described; they are passed over. "
            "A client passes over what it does not know, too: fields and events are added, never renamed or removed."
            f"\n\nThe server closes with:\n\n{codes}"
        ),
        "messages": {
            event.__name__: {"$ref": f"#/components/messages/{event.__name__}"}
            for event in (*CLIENT_EVENTS, *SERVER_EVENTS)
        },
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {
                    "type": "object",
                    "properties": {"token": {"type": "string", "description": "A signed token (JWT)."}},
                },
                "bindingVersion": "0.1.0",
            }
        },
        "x-max-frame-size": settings.MAX_FRAME_SIZE,
    }


def _close_codes() -> dict[int, str]:
    return SERVER_CLOSE_CODES | {code.value: code.meaning for code in CloseCode}


def _operation(action: str, event: type[Struct]) -> dict:
    operation = {
        "action": action,
        "channel": {"$ref": CHANNEL},
        "summary": _summary_and_description(event)[0],
        "messages": _on_channel(event),
    }
    if replies := REPLIES.get(event):
        operation["reply"] = {"channel": {"$ref": CHANNEL}, "messages": _on_channel(*replies)}
    return operation


def _on_channel(*events: type[Struct]) -> list[dict]:
    return [{"$ref": f"{CHANNEL}/messages/{event.__name__}"} for event in events]


def _message(event: type[Struct]) -> dict:
    summary, description = _summary_and_description(event)
    return {
        "name": _tag(event),
        "title": re.sub(r"\B(?=[A-Z])", " ", event.__name__).capitalize(),
        "summary": summary,
        **({"description": description} if description else {}),
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{event.__name__}"},
    }


def _summary_and_description(event: type[Struct]) -> tuple[str, str]:
    summary, _, description = inspect.cleandoc(event.__doc__ or "").partition("\n\n")
    return summary, description


def _schemas() -> dict:
    template = "#/components/schemas/{name}"
    _, received = msgspec.json.schema_components(CLIENT_EVENTS, ref_template=template)
    _, sent = msgspec.json.schema_components(SERVER_EVENTS, ref_template=template)
    for name, schema in sent.items():
        if schema.get("type") == "object":
            schema["required"] = _always_sent(getattr(protocol, name))
    schemas = received | sent
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    # msgspec sorts an enumeration and knows nothing of what its members mean.
    meanings = "\n".join(f"- `{code}`: {code.meaning}" for code in ErrorCode)
    schemas[ErrorCode.__name__] = {
        "title": ErrorCode.__name__,
        "type": "string",
        "description": f"{inspect.cleandoc(ErrorCode.__doc__)}\n\n{meanings}",
        "enum": [code.value for code in ErrorCode],
    }
    return schemas


def _always_sent(struct: type[Struct]) -> list[str]:
    """The names of the fields that are never left out: msgspec writes defaults too, but nothing that is UNSET."""
    tag = [struct.__struct_config__.tag_field] if struct.__struct_config__.tag_field else []
    return tag + [field.encode_name for field in structs.fields(struct) if field.default is not UNSET]
