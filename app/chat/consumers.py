"""One WebSocket: who is it, what does she want, what is she told when it cannot be."""

import asyncio
import logging
from urllib.parse import parse_qs

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from chat import auth, conversation, database, protocol
from chat.connection import Connection
from chat.hub import hub
from chat.protocol import (
    Auth,
    ChatError,
    ClientEvent,
    CloseCode,
    ErrorCode,
    JoinRoom,
    LeaveRoom,
    Message,
    Ping,
    Pong,
    SenderInfo,
    SendMessage,
    SetStatus,
    SetTyping,
)
from chat.watch import watch

logger = logging.getLogger(__name__)

CLOSE_CODES = {ErrorCode.UNAVAILABLE: CloseCode.UNAVAILABLE, ErrorCode.INTERNAL: CloseCode.INTERNAL}
"""What a connection is closed with after an error that ends it; 4401 after all others."""


class ChatConsumer(AsyncWebsocketConsumer):
    """The chat over one WebSocket at `/ws/chat/`.

    Events for this socket come from the hub, never through Channels' own dispatch: that would cost a hop through the
    one thread that all consumers share, for each event and socket.
    """

    # No layer of this name is configured: the consumer has no channel of its own.
    channel_layer_alias = "none"

    async def __call__(self, scope: dict, receive: object, send: object) -> None:
        self.connection = Connection(send)
        self._patience: asyncio.TimerHandle | None = None
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Channels calls `disconnect` neither when the server stops nor after an exception.
            self._stop_waiting()
            hub.disconnect(self.connection)
            await self.connection.abandon()

    async def dispatch(self, message: dict) -> None:
        match message["type"]:
            case "websocket.connect":
                await self._connected()
            case "websocket.receive":
                await self._received(message)
            case "websocket.disconnect":
                raise StopConsumer

    async def _connected(self) -> None:
        await self.accept()
        try:
            if person := await self._person_of_handshake():
                await self._authenticated(person)
            else:
                self._wait_for_auth()
        except ChatError as error:
            self._refuse(error)
        except Exception:
            logger.exception("A handshake could not be handled")
            self._refuse(_internal())

    async def _person_of_handshake(self) -> SenderInfo | None:
        """The person that the query string, the `Authorization` header or the session cookie names, or None."""
        headers = dict(self.scope["headers"])
        token = parse_qs(self.scope["query_string"].decode("latin1")).get("token", [""])[0]
        scheme, _, credentials = headers.get(b"authorization", b"").decode("latin1").partition(" ")
        if not token and scheme.lower() == "bearer":
            token = credentials.strip()
        if token:
            return (await database.query(auth.identity_of_token, token)).person
        if cookie := headers.get(b"cookie"):
            identity = await database.query(auth.identity_of_cookie, cookie.decode("latin1"))
            return identity and identity.person
        return None

    async def _authenticated(self, person: SenderInfo) -> None:
        watch.start()
        await hub.connect(self.connection, person)

    def _refuse(self, error: ChatError) -> None:
        """Say why, then close."""
        self.connection.send(protocol.encode_error(error))
        self.connection.close(CLOSE_CODES.get(error.code, CloseCode.UNAUTHENTICATED))

    def _wait_for_auth(self) -> None:
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(settings.AUTH_TIMEOUT, lambda: self._refuse(_not_authenticated()))

    def _stop_waiting(self) -> None:
        if self._patience:
            self._patience.cancel()
            self._patience = None

    async def _received(self, frame: dict) -> None:
        try:
            if (text := frame.get("text")) is None:
                raise ChatError(ErrorCode.BINARY_FRAME, "This server speaks JSON in text frames, not binary ones.")
            await self._handle(protocol.decode(text))
        except ChatError as error:
            self.connection.send(protocol.encode_error(error))
        except Exception:
            logger.exception("An event could not be handled")
            self.connection.send(protocol.encode_error(_internal()))

    async def _handle(self, event: ClientEvent) -> None:
        person = self.connection.person
        if isinstance(event, Auth):
            await self._handle_auth(event)
            return
        if person is None:
            raise _not_authenticated()
        match event:
            case JoinRoom():
                await conversation.join(self.connection, protocol.room_of(event))
            case LeaveRoom():
                self._leave(protocol.room_of(event))
            case SendMessage():
                await self._say(person, protocol.room_of(event), event.data.content)
            case SetTyping():
                await conversation.set_typing(person, protocol.room_of(event), event.data.is_typing)
            case SetStatus():
                await conversation.set_status(person, event.data.status)
            case Ping():
                self.connection.send(protocol.encode(Pong()))

    async def _handle_auth(self, event: Auth) -> None:
        if self.connection.person:
            await self._confirm(event, self.connection.person)
        elif event.data.token:
            await self._authenticate(event)
        else:
            raise _not_authenticated()

    async def _confirm(self, event: Auth, known: SenderInfo) -> None:
        """The connection's identity is settled: whatever else the event says is an error."""
        if protocol.claimed_user(event) not in (None, known.id):
            raise _identity_mismatch()
        if event.data.token and (await database.query(auth.identity_of_token, event.data.token)).person.id != known.id:
            raise _identity_mismatch()

    async def _authenticate(self, event: Auth) -> None:
        # The token came in time; how long its check takes is not the client's fault.
        self._stop_waiting()
        try:
            person = (await database.query(auth.identity_of_token, event.data.token)).person
            if protocol.claimed_user(event) not in (None, person.id):
                raise _identity_mismatch()
            await self._authenticated(person)
        except ChatError as error:
            if error.code in (ErrorCode.INVALID_TOKEN, ErrorCode.TOKEN_EXPIRED, ErrorCode.REVOKED):
                self._refuse(error)
                return
            self._wait_for_auth()
            raise

    def _leave(self, room_id: int) -> None:
        if room_id not in self.connection.rooms:
            raise ChatError(ErrorCode.NOT_JOINED, "You have not joined this room; there is nothing to leave.")
        hub.leave(self.connection, room_id)

    async def _say(self, person: SenderInfo, room_id: int, content: str) -> None:
        message = await conversation.say(person, room_id, content)
        if room_id not in self.connection.rooms:
            # Her own message is also her receipt, joined or not.
            self.connection.send(protocol.encode(Message(message, room_id)))


def _internal() -> ChatError:
    return ChatError(ErrorCode.INTERNAL, "Something went wrong on the server; it has been logged.")


def _identity_mismatch() -> ChatError:
    return ChatError(
        ErrorCode.IDENTITY_MISMATCH, "The connection belongs to somebody else; log in as this person first."
    )


def _not_authenticated() -> ChatError:
    return ChatError(
        ErrorCode.NOT_AUTHENTICATED,
        "This connection has not said who it is; connect with ?token=…, or send `auth` with a `token`.",
    )
