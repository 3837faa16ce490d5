"""Requests as they come, which is not always as Django takes them to be."""

import os
from typing import IO, Any

from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import HttpResponseBase
from django.utils.functional import cached_property
from django.utils.http import parse_header_parameters

from chat.api.errors import unreadable


class Request(ASGIRequest):
    """A request whose body may come in chunks, and whose cookies and `Content-Type` may be anything."""

    def __init__(self, scope: dict[str, Any], body_file: IO[bytes]) -> None:
        super().__init__(scope, body_file)
        # Without a length (RFC 9112, 7.1) REST framework would take the body for an empty one.
        if "CONTENT_LENGTH" not in self.META:
            body_file.seek(0, os.SEEK_END)
            self.META["CONTENT_LENGTH"] = str(body_file.tell())
            body_file.seek(0)

    @cached_property
    def COOKIES(self) -> dict[str, str]:  # noqa: N802 (Django's name)
        """The cookies, without any that holds NUL: PostgreSQL refuses to look for such a session."""
        return {name: value for name, value in super().COOKIES.items() if "\0" not in value}

    # The charset is not looked at: JSON and forms are UTF-8 (RFC 8259, 8.1; RFC 7578, 5.1.2; URL Standard, 5.1). Django
    # would decode with whatever Python has under that name, and raise where that is none for text, such as `idna`.
    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except ValueError:
            # A parameter in an encoding that is none (RFC 8187).
            meta["CONTENT_TYPE"] = self.content_type = ""
            self.content_params = {}


class Handler(ASGIHandler):
    """Django, which answers JSON to what it cannot read of a call of the API: to others, an empty 400 is as good."""

    request_class = Request

    def create_request(
        self, scope: dict[str, Any], body_file: IO[bytes]
    ) -> tuple[ASGIRequest | None, HttpResponseBase | None]:
        request, refusal = super().create_request(scope, body_file)
        if refusal is not None and scope["path"].startswith("/chats/"):
            refusal = unreadable()
        return request, refusal
