"""Who calls the HTTP API: the token that the WebSocket takes too, or, on Salon's own pages, the session."""

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from chat import auth
from chat.auth import Identity
from chat.models import User
from chat.protocol import ChatError, ErrorCode
from salon import logs


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer TOKEN` (RFC 6750, 2.1)."""

    def authenticate(self, request: Request) -> tuple[User, Identity] | None:
        if token := self.token(request):
            try:
                identity = auth.identity_of_token(token)
            except ChatError as error:
                if error.code is ErrorCode.UNAVAILABLE:
                    raise
                raise AuthenticationFailed(error.sentence, error.code) from None
            user = User.objects.get(pk=identity.person.id)
            logs.is_for(user.pk)
            return user, identity
        return None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"

    def token(self, request: Request) -> str | None:
        """The token of a request, or None."""
        scheme, _, credentials = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        return credentials.strip() if scheme.lower() == "bearer" else None


class AddressTokenAuthentication(TokenAuthentication):
    """`?token=TOKEN`: an `<img>` or an `<audio>` sends no headers."""

    def token(self, request: Request) -> str | None:
        return request.GET.get("token")


class PageAuthentication(SessionAuthentication):
    """The session of somebody who is logged in here; what changes something needs the CSRF token of a page."""

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class TokenScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI document describes the token."""

    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class AddressTokenScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI document describes the token of an address."""

    target_class = AddressTokenAuthentication
    name = "token_in_address"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "apiKey", "in": "query", "name": "token"}


class PageScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI document describes the session."""

    target_class = PageAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
