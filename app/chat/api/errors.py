"""Errors of the HTTP API: a JSON object with `detail` and `code`, or with the errors of each field."""

import math
import sys
from typing import Any

from django.core.exceptions import (
    DisallowedHost,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import Error
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.views import defaults
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.serializers import as_serializer_error
from rest_framework.views import exception_handler

from chat import availability, database, failures
from chat.protocol import ChatError, ErrorCode

STATUSES = {
    ErrorCode.INVALID_ROOM: status.HTTP_404_NOT_FOUND,
    ErrorCode.INVALID_MESSAGE: status.HTTP_404_NOT_FOUND,
    ErrorCode.FORBIDDEN: status.HTTP_403_FORBIDDEN,
    ErrorCode.FILE_TOO_LARGE: status.HTTP_413_REQUEST_ENTITY_TOO_LARGE,
    ErrorCode.RATE_LIMITED: status.HTTP_429_TOO_MANY_REQUESTS,
    ErrorCode.UNAVAILABLE: status.HTTP_503_SERVICE_UNAVAILABLE,
    ErrorCode.INTERNAL: status.HTTP_500_INTERNAL_SERVER_ERROR,
}
"""The HTTP status of an error; 400 for all others."""


class TooLarge(exceptions.APIException):
    """The body is larger than the server takes (RFC 9110, 15.5.14)."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The request is too large; send less at once."
    default_code = "too_large"


def answer(error: Exception, context: dict[str, Any]) -> Response | None:
    """The response for an exception; None for one that nobody foresaw."""
    response = _answer(error, context)
    if response is not None and isinstance(response.data, dict) and "detail" in response.data:
        detail = response.data["detail"]
        response.data.setdefault("code", getattr(detail, "code", "error"))
    return response


def _answer(error: Exception, context: dict[str, Any]) -> Response | None:
    match error:
        case ChatError():
            headers = {}
            if error.retry_after is not None:
                # Whole seconds (RFC 9110, 10.2.3).
                headers["Retry-After"] = str(math.ceil(error.retry_after))
            data = {"detail": error.sentence, "code": error.code.value}
            return Response(data, STATUSES.get(error.code, status.HTTP_400_BAD_REQUEST), headers=headers)
        case ModelValidationError():
            return exception_handler(exceptions.ValidationError(as_serializer_error(error)), context)
        case RequestDataTooBig():
            return exception_handler(TooLarge(), context)
        case TooManyFieldsSent() | TooManyFilesSent():
            too_many = exceptions.ParseError("The form has too many fields; send a list as JSON.")
            return exception_handler(too_many, context)
        case SuspiciousOperation() | MultiPartParserError():
            return exception_handler(exceptions.ParseError("The body is not as its Content-Type says."), context)
        case Error() if failures.is_passing(error):
            return _answer(database.unavailable(), context)
    return exception_handler(error, context)


def refusal(error: ChatError) -> JsonResponse:
    """The answer to a request that does not come as far as REST framework."""
    answer = _answer(error, {})
    headers = {name: answer[name] for name in ("Retry-After",) if name in answer}
    return JsonResponse(answer.data, status=answer.status_code, headers=headers)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The answer to a request that does not come as far as a view (Django's `handler400`)."""
    if not request.path_info.startswith("/chats/"):
        return defaults.bad_request(request, exception)
    if isinstance(exception, DisallowedHost):
        return unreadable("This server does not go by the name in `Host`; its operator sets SALON_ALLOWED_HOSTS.")
    return unreadable()


def unreadable(detail: str = "The request cannot be read; look at its headers and its address.") -> JsonResponse:
    """The answer to what is hardly a request."""
    return JsonResponse({"detail": detail, "code": "bad_request"}, status=status.HTTP_400_BAD_REQUEST)


def internal_error(request: HttpRequest) -> HttpResponse:
    """The answer where nobody foresaw what went wrong (Django's `handler500`)."""
    error = sys.exc_info()[1]
    if isinstance(error, Error) and failures.is_passing(error):
        # Outside of a view: when a session is kept.
        is_call = request.path_info.startswith("/chats/")
        return refusal(database.unavailable()) if is_call else availability.page()
    if not request.path_info.startswith("/chats/"):
        return defaults.server_error(request)
    sentence = "The server made a mistake; its log says which. Try again, or tell its operator."
    data = {"detail": sentence, "code": ErrorCode.INTERNAL.value}
    return JsonResponse(data, status=status.HTTP_500_INTERNAL_SERVER_ERROR)
