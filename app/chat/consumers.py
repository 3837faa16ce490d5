"""One WebSocket: who is it, what does she want, what is she told when it cannot be."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qs

from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from chat import auth, claims, conversation, database, follow, limits, protocol
from chat.auth import Identity
from chat.connection import Connection
from chat.deadlines import Deadline, deadlines
from chat.hub import hub
from chat.journal import Draft
from chat.limits import Bucket
from chat.presence import keeper
from chat.protocol import (
    AnyClientEvent,
    Auth,
    ChatError,
    CloseCode,
    ErrorCode,
    JoinRoom,
    LeaveRoom,
    Message,
    Ping,
    Pong,
    Read,
    SenderInfo,
    SendMessage,
    SetStatus,
    SetTyping,
)
from chat.watch import watch
from salon import logs, measures
from salon.logs import about, apart

logger = logging.getLogger(__name__)

CLOSE_CODES = {
    ErrorCode.UNAVAILABLE: CloseCode.UNAVAILABLE,
    ErrorCode.INTERNAL: CloseCode.INTERNAL,
    ErrorCode.RATE_LIMITED: CloseCode.RATE_LIMITED,
    ErrorCode.TOO_MANY_CONNECTIONS: CloseCode.RATE_LIMITED,
}
"""What a connection is closed with after an error that ends it; 4401 after all others."""

ENDS_THE_CONNECTION = (ErrorCode.INVALID_TOKEN, ErrorCode.TOKEN_EXPIRED, ErrorCode.REVOKED)
"""Errors of the first token after which the connection is of no use."""

EXPIRY_WARNING = settings.TOKEN_WARNING + settings.TOKEN_LEEWAY
"""Seconds before a token counts no more at which its connection is told: by its own `exp`, `TOKEN_WARNING` seconds."""


class ChatConsumer(AsyncWebsocketConsumer):
    """The chat over one WebSocket at `/ws/chat/`.

    Events for this socket come from the hub, and what it sends is taken from the server as it comes, never through
    Channels' own dispatch: that would cost a task and a hop through the one thread that all consumers share, for each
    event. So the consumer has no channel of its own.
    """

    async def __call__(self, scope: dict, receive: object, send: object) -> None:
        direct = scope.get("extensions", {}).get("salon.direct")
        self.scope = scope
        self.base_send = send
        name = next((value.decode("latin1") for name, value in scope["headers"] if name == b"x-request-id"), "")
        self.connection = Connection(send, direct["socket"] if direct else None, logs.request_name(name))
        self._deadline: Deadline | None = None
        self._events = Bucket(settings.LIMITS["events"])
        self._patience = Bucket(settings.LIMIT_PATIENCE)
        self._refusals: set[str] | None = None
        """The errors that the log has told of."""
        self._received_events = 0
        self._is_open = False
        self._close_code: int | None = None
        logs.caller.set(self.connection.caller)
        measures.counts.connections += 1
        try:
            while (event := await receive())["type"] != "websocket.disconnect":
                await self.dispatch(event)
            self._close_code = event.get("code")
        finally:
            self._tell_end()
            # Channels calls `disconnect` neither when the server stops nor after an exception.
            self._stop_timer()
            await self._gone()

    async def _gone(self) -> None:
        hub.disconnect(self.connection)
        try:
            for room_id in list(self.connection.typing):
                await conversation.stop_typing(self.connection, room_id)
        finally:
            if self.connection.person:
                keeper.left(self.connection)
            await self.connection.abandon()

    def _tell_end(self) -> None:
        measures.counts.connections -= 1
        # Who was cut off with the application has no code.
        measures.closed[self._close_code or 0] += 1
        logger.info(
            "A WebSocket is closed",
            extra=about(
                "connection.closed",
                outcome=None if self._close_code is None else str(self._close_code),
                duration=time.monotonic() - self.connection.since,
                received=self._received_events,
            ),
        )

    async def dispatch(self, message: dict) -> None:
        if message["type"] == "websocket.receive":
            await self._received(message)
        else:
            await self._connected()

    async def _connected(self) -> None:
        await self.accept()
        try:
            if identity := await self._identity_of_handshake():
                await self._authenticated(identity)
            else:
                self._wait_for_auth()
        except ChatError as error:
            self._refuse(error)
        except Exception:
            logger.exception("A handshake could not be handled", extra=about("connection.failed"))
            self._refuse(_internal())
        finally:
            if self.connection.socket:
                # What the handshake was made of is a good part of an idle connection, and Salon's server asks no more
                # for it.
                self.scope["headers"].clear()
                self.scope.clear()

    async def _identity_of_handshake(self) -> Identity | None:
        """What the query string, the `Authorization` header or the session cookie says, or None."""
        token = parse_qs(self.scope["query_string"].decode("latin1")).get("token", [""])[0]
        if token:
            return await auth.identify(token)
        headers = dict(self.scope["headers"])
        scheme, _, credentials = headers.get(b"authorization", b"").decode("latin1").partition(" ")
        if scheme.lower() == "bearer" and (token := credentials.strip()):
            return await auth.identify(token)
        if cookie := headers.get(b"cookie"):
            return await database.look_up(auth.identity_of_cookie, cookie.decode("latin1"))
        return None

    async def _authenticated(self, identity: Identity) -> None:
        watch.start()
        self.connection.caller.user = identity.person.id
        await hub.connect(self.connection, identity)
        if not self.connection.is_closing:
            watch.identified(self.connection)
            try:
                await keeper.arrived(self.connection)
            except ChatError as error:
                # Half let in, she would be neither present nor counted.
                self._refuse(error)
                return
            self._wait_for_expiry(identity)
            self._is_open = True
            measures.handshakes["opened"] += 1
            logger.info(
                "Somebody is connected",
                extra=about("connection.opened", outcome="ok", duration=time.monotonic() - self.connection.since),
            )

    def _refuse(self, error: ChatError) -> None:
        """Say why, then close."""
        if not self.connection.is_closing:
            if not self._is_open:
                measures.handshakes[error.code.value] += 1
            logger.info(
                "A WebSocket is refused",
                # It may be a timer that finds it so.
                extra=apart(
                    "connection.refused",
                    connection=self.connection.caller.id,
                    user=self.connection.caller.user,
                    outcome=error.code.value,
                    duration=time.monotonic() - self.connection.since,
                ),
            )
        self.connection.send(protocol.encode_error(error))
        self.connection.close(CLOSE_CODES.get(error.code, CloseCode.UNAUTHENTICATED))

    def _wait_for_auth(self) -> None:
        self._start_timer(settings.AUTH_TIMEOUT, lambda: self._refuse(_not_authenticated()))

    def _wait_for_expiry(self, identity: Identity) -> None:
        """Warn before the token ends, and close when it has."""
        self._stop_timer()
        if identity.expires_at is None:
            return
        left = (identity.expires_at - datetime.now(UTC)).total_seconds()
        # A timer of years overflows; by then another token is due anyway.
        warn_after = min(max(0.0, left - EXPIRY_WARNING), 30 * 86400)
        # Thousands wait for hours: what they wait with is small.
        self._start_timer(warn_after, self._warn)

    def _warn(self) -> None:
        identity = self.connection.identity
        left = (identity.expires_at - datetime.now(UTC)).total_seconds()
        if left > EXPIRY_WARNING + 1:
            self._wait_for_expiry(identity)
            return
        sentence = "Your token is about to expire; send `auth` with a fresh one to stay connected."
        self.connection.send(protocol.encode_error(ChatError(ErrorCode.TOKEN_EXPIRING, sentence)))
        self._start_timer(max(0.0, left), lambda: self._refuse(claims.expired()))

    def _start_timer(self, seconds: float, act: Callable[[], None]) -> None:
        self._stop_timer()
        self._deadline = deadlines.after(seconds, act)

    def _stop_timer(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    async def _received(self, frame: dict) -> None:
        if self.connection.is_closing:
            return
        event, outcome, began = None, "ok", time.perf_counter()
        self._received_events += 1
        try:
            if wait := self._events.take():
                raise limits.refused("events", wait)
            if (text := frame.get("text")) is None:
                raise ChatError(ErrorCode.BINARY_FRAME, "This server speaks JSON in text frames, not binary ones.")
            event = protocol.decode(text)
            measures.received[type(event)] += 1
            await self._handle(event, frame)
        except ChatError as error:
            outcome = error.code.value
            measures.counts.unreadable_events += event is None and error.code is not ErrorCode.RATE_LIMITED
            self._answer(error, event)
        except Exception:
            outcome = ErrorCode.INTERNAL.value
            logger.exception("An event could not be handled", extra=about("event.failed", **_described(event)))
            self._answer(_internal(), event)
        for tell in measures.on_done:
            tell("websocket.server", str(_described(event)["type"]), time.perf_counter() - began, outcome)
        if follow.following or outcome != "ok" or logger.isEnabledFor(logging.DEBUG):
            self._tell(event, outcome, time.perf_counter() - began)

    def _tell(self, event: AnyClientEvent | None, outcome: str, duration: float) -> None:
        """Say in the log what came of an event: of who is followed, of each; of others, once how they are refused."""
        fields = {**_described(event), "outcome": outcome, "duration": duration}
        who = self.connection.caller
        if follow.following and follow.concerns(who.user, fields["room"]):
            follow.tell("event.received", user=who.user, connection=who.id, **fields)
            return
        level = logging.DEBUG
        if outcome != "ok" and outcome not in (self._refusals or ()):
            self._refusals = {outcome, *(self._refusals or ())}
            level = logging.INFO
        logger.log(level, "An event was handled", extra=about("event.received", **fields))

    def _answer(self, error: ChatError, event: AnyClientEvent | None) -> None:
        if error.code is ErrorCode.RATE_LIMITED and self._patience.take():
            self._refuse(error)
            return
        client_id = event.data.client_id if isinstance(event, SendMessage) else None
        self.connection.send(protocol.encode_error(error, client_id))

    async def _handle(self, event: AnyClientEvent, frame: dict) -> None:
        if isinstance(event, Auth):
            await self._handle_auth(event)
            return
        if self.connection.person is None:
            raise _not_authenticated()
        match event:
            case JoinRoom():
                await conversation.join(self.connection, protocol.room_of(event), event.data)
            case LeaveRoom():
                await conversation.leave(self.connection, protocol.room_of(event))
            case SendMessage():
                await self._say(protocol.room_of(event), event, frame.get("at") or time.time())
            case SetTyping():
                await conversation.set_typing(self.connection, protocol.room_of(event), event.data.is_typing)
            case SetStatus():
                limits.people.take(self.connection.person.id, "signals")
                await keeper.said(self.connection, event.data.status)
            case Read():
                await conversation.mark_read(self.connection.person, protocol.room_of(event), event.data.seq)
            case Ping():
                self.connection.send(protocol.encode(Pong()))

    async def _handle_auth(self, event: Auth) -> None:
        if known := self.connection.person:
            await self._confirm(event, known)
        elif event.data.token:
            await self._authenticate(event)
        else:
            raise _not_authenticated()

    async def _confirm(self, event: Auth, known: SenderInfo) -> None:
        """The connection's identity is settled: another one is an error, a fresh token of the same person renews it."""
        if protocol.claimed_user(event) not in (None, known.id):
            raise _identity_mismatch()
        if event.data.token:
            identity = await auth.identify(event.data.token)
            if identity.person.id != known.id:
                raise _identity_mismatch()
            self.connection.identity = identity
            watch.identified(self.connection)
            self._wait_for_expiry(identity)

    async def _authenticate(self, event: Auth) -> None:
        # The token came in time; how long its check takes is not the client's fault.
        self._stop_timer()
        try:
            identity = await auth.identify(event.data.token)
            if protocol.claimed_user(event) not in (None, identity.person.id):
                raise _identity_mismatch()
            await self._authenticated(identity)
        except ChatError as error:
            if error.code in ENDS_THE_CONNECTION:
                self._refuse(error)
                return
            self._wait_for_auth()
            raise

    async def _say(self, room_id: int, event: SendMessage, received_at: float) -> None:
        draft = Draft(
            room_id,
            self.connection.person,
            event.data.content,
            client_id=event.data.client_id,
            received_at=received_at,
        )
        stored = await conversation.say(draft)
        if room_id in self.connection.rooms and (stored.is_new or hub.brings(self.connection, stored.message)):
            # It comes, or has come, in its turn.
            return
        # Her own message is also her receipt, joined or not.
        self.connection.send(protocol.encode(Message(stored.message, room_id)))


def _described(event: AnyClientEvent | None) -> dict[str, object]:
    """What the log says of an event; nothing that somebody has written."""
    if event is None:
        return {"type": None, "room": None}
    room_id = getattr(getattr(event, "data", None), "room_id", None)
    return {"type": event.__struct_config__.tag, "room": event.room_id if room_id is None else room_id}


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
