"""Bodies as they arrive: JSON that is held to the rules of the wire, and the two encodings of forms."""

from typing import IO, Any

import msgspec
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from chat.api.errors import TooLarge

MAX_BODY = 256 * 1024
"""Bytes of a JSON body."""


class JSONParser(BaseParser):
    """JSON without NaN, half surrogate pairs, and what else a lenient decoder lets pass."""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: dict | None = None) -> Any:
        body = stream.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise TooLarge(f"The JSON body has more than {MAX_BODY // 1024} KiB; send less at once.")
        try:
            return msgspec.json.decode(body) if body.strip() else {}
        except RecursionError:
            raise ParseError("The JSON body is nested too deeply.") from None
        except (msgspec.MsgspecError, ValueError):
            raise ParseError("The body is not valid JSON.") from None
