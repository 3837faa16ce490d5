"""One WebSocket: who is it, what does she want, what is she told when it cannot be."""

import asyncio
import logging
from urllib.parse import parse_qs

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from chat import auth, conversation, database, protocol, rooms
from chat.hub import Connection, hub
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

logger = logging.getLogger(__name__)


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
            await hub.disconnect(self.connection)
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
            person = await self._person_of_handshake()
        except ChatError as error:
            self._refuse(error)
            return
        if person:
            await self._authenticated(person)
        else:
            self._patience = asyncio.get_running_loop().call_later(settings.AUTH_TIMEOUT, self._lose_patience)

    async def _person_of_handshake(self) -> SenderInfo | None:
        """The person that the query string, the `Authorization` header or the session cookie names, or None."""
        headers = dict(self.scope["headers"])
        token = parse_qs(self.scope["query_string"].decode("latin1")).get("token", [""])[0]
        scheme, _, credentials = headers.get(b"authorization", b"").decode("latin1").partition(" ")
        if not token and scheme.lower() == "bearer":
            token = credentials.strip()
        if token:
            return await database.query(auth.person_of_token, token)
        if cookie := headers.get(b"cookie"):
            return await database.query(auth.person_of_cookie, cookie.decode("latin1"))
        return None

    async def _authenticated(self, person: SenderInfo) -> None:
        self._stop_waiting()
        try:
            await hub.connect(self.connection, person)
        except ChatError as error:
            self._refuse(error)

    def _refuse(self, error: ChatError) -> None:
        """Say why, then close."""
        self.connection.send(protocol.encode_error(error))
        unavailable = error.code is ErrorCode.UNAVAILABLE
        self.connection.close(CloseCode.UNAVAILABLE if unavailable else CloseCode.UNAUTHENTICATED)

    def _lose_patience(self) -> None:
        self._refuse(_not_authenticated())

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
            error = ChatError(ErrorCode.INTERNAL, "Something went wrong on the server; it has been logged.")
            self.connection.send(protocol.encode_error(error))

    async def _handle(self, event: ClientEvent) -> None:
        person = self.connection.person
        if isinstance(event, Auth):
            await self._handle_auth(event)
            return
        if person is None:
            raise _not_authenticated()
        match event:
            case JoinRoom():
                await self._join(person, protocol.room_of(event))
            case LeaveRoom():
                await self._leave(protocol.room_of(event))
            case SendMessage():
                await self._say(person, protocol.room_of(event), event.data.content)
            case SetTyping():
                await conversation.set_typing(person, protocol.room_of(event), event.data.is_typing)
            case SetStatus():
                await conversation.set_status(person, event.data.status)
            case Ping():
                self.connection.send(protocol.encode(Pong()))

    async def _handle_auth(self, event: Auth) -> None:
        known = self.connection.person
        person = known
        if event.data.token:
            try:
                person = await database.query(auth.person_of_token, event.data.token)
            except ChatError as error:
                if known or error.code is ErrorCode.UNAVAILABLE:
                    raise
                self._refuse(error)
                return
        if person is None:
            raise _not_authenticated()
        if (known and person.id != known.id) or event.data.user_id not in (None, person.id):
            raise ChatError(
                ErrorCode.IDENTITY_MISMATCH,
                "The connection belongs to somebody else; log in as this person first.",
            )
        if known is None:
            await self._authenticated(person)

    async def _join(self, person: SenderInfo, room_id: int) -> None:
        await database.query(rooms.require_member, person.id, room_id)
        await hub.join(self.connection, room_id)

    async def _leave(self, room_id: int) -> None:
        if room_id not in self.connection.rooms:
            raise ChatError(ErrorCode.NOT_JOINED, "You have not joined this room; there is nothing to leave.")
        await hub.leave(self.connection, room_id)

    async def _say(self, person: SenderInfo, room_id: int, content: str) -> None:
        message = await conversation.say(person, room_id, content)
        if room_id not in self.connection.rooms:
            # Her own message is also her receipt, joined or not.
            self.connection.send(protocol.encode(Message(message, room_id)))


def _not_authenticated() -> ChatError:
    return ChatError(
        ErrorCode.NOT_AUTHENTICATED,
        "This connection has not said who it is; connect with ?token=…, or send `auth` with a `token`.",
    )
