"""The HTTP API under `/chats/`: the same conversation, by request and answer.

Each call runs in a thread of its own small pool. What it says to others goes through the same code as what comes over a
WebSocket.
"""

import functools
from collections.abc import Callable, Coroutine, Iterable
from typing import Any
from uuid import UUID

import msgspec
from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import HttpRequest, HttpResponse, QueryDict
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from msgspec import Struct
from rest_framework import exceptions
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.utils.urls import remove_query_param, replace_query_param
from rest_framework.views import APIView

from chat import conversation, database, files, limits, messages, rooms
from chat.api import errors, representation, serializers
from chat.api.authentication import AddressTokenAuthentication, PageAuthentication, TokenAuthentication
from chat.api.parsers import JSONParser
from chat.api.schema import answers
from chat.files import StoredFile
from chat.journal import Draft, PendingError
from chat.models import Attachment, ChatMessage, ChatRoom, Membership, RoomType
from chat.people import person
from chat.protocol import ChatError, ErrorCode

View = Callable[..., Coroutine[Any, Any, HttpResponse]]

PEOPLE = 20
"""People that a search finds at most: whoever wants another one writes more of her name."""

ROOM_KEY = OpenApiParameter("key", OpenApiTypes.STR, OpenApiParameter.PATH, description="The room's id or uuid.")


class ChatView(APIView):
    """What all views of the API have in common."""

    authentication_classes = (TokenAuthentication, PageAuthentication)
    parser_classes = (JSONParser, MultiPartParser, FormParser)

    @classmethod
    def as_view(cls, **initkwargs: Any) -> View:
        view = super().as_view(**initkwargs)

        @functools.wraps(view)
        async def in_thread(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                return await database.serve(view, request, *args, **kwargs)
            except ChatError as error:
                return errors.refusal(error)

        return in_thread

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.user.is_authenticated:
            limits.people.take(request.user.pk, "requests")

    def body(self, serializer: type[Serializer]) -> Serializer:
        """The checked body. Raises `ValidationError`."""
        data = self.request.data
        if isinstance(data, dict) and not isinstance(data, QueryDict):
            # A program's null says as much as what is left out.
            data = {name: value for name, value in data.items() if value is not None}
        checked = serializer(data=data if data is not None else {}, partial=self.request.method == "PATCH")
        checked.is_valid(raise_exception=True)
        return checked

    def query(self, serializer: type[Serializer]) -> dict[str, Any]:
        """The checked query string. Raises `ValidationError`."""
        checked = serializer(data=self.request.query_params)
        checked.is_valid(raise_exception=True)
        return checked.validated_data

    def room(self, key: str) -> ChatRoom:
        """The caller's room with this id or uuid. Raises `ChatError` (`invalid_room`)."""
        return rooms.room_of(self.request.user, key)

    def link(self, **changes: int | None) -> str:
        """The address of this call with other parameters; None takes one away."""
        url = self.request.build_absolute_uri()
        for name, value in changes.items():
            url = remove_query_param(url, name) if value is None else replace_query_param(url, name, value)
        return url


def respond(data: Struct, status: int = 200) -> Response:
    """An answer of the API."""
    return Response(msgspec.to_builtins(data), status)


class Rooms(ChatView):
    """My rooms, and new ones."""

    @extend_schema(
        operation_id="list_rooms",
        parameters=[serializers.RoomQuery],
        responses=answers(representation.RoomPage),
    )
    def get(self, request: Request) -> Response:
        """My rooms, the one with the newest activity first."""
        query = self.query(serializers.RoomQuery)
        found = rooms.rooms_called(request.user, name) if (name := query.get("name")) else rooms.rooms_of(request.user)
        found = found.select_related("school")
        if details := query.get("details"):
            found = found.filter(details__icontains=details)
        limit, offset, count = query["limit"], query.get("offset", 0), found.count()
        page = found[offset : offset + limit] if offset < count else []
        return respond(
            representation.RoomPage(
                count=count,
                next=self.link(limit=limit, offset=offset + limit) if offset + limit < count else None,
                previous=self.link(limit=limit, offset=max(0, offset - limit)) if offset else None,
                results=representation.rooms(page, request.user),
            )
        )

    @extend_schema(
        operation_id="create_room",
        request=serializers.NewRoom,
        responses=answers(representation.RoomDetail, created=True, named=True, writes=True),
    )
    def post(self, request: Request) -> Response:
        """Create a room. The private room that two people have already is returned and not made twice."""
        wanted = self.body(serializers.NewRoom)
        return self._create(wanted, is_group=wanted.validated_data.get("is_group", True))

    def _create(self, wanted: serializers.NewRoom, *, is_group: bool) -> Response:
        data, user = wanted.validated_data, self.request.user
        fields = {name: data[name] for name in ("name", "details", "extra_data") if data.get(name) is not None}
        room_type = data.get("room_type", RoomType.GROUP if is_group else RoomType.PRIVATE)
        if room_type == RoomType.PRIVATE:
            room, is_new = rooms.open_private(user, wanted.people, **fields)
        elif not is_group:
            raise exceptions.ValidationError({"is_group": ["A room of this type is a group."]})
        else:
            fields.setdefault("name", "")
            room, is_new = rooms.create_group(user, wanted.people, room_type=room_type, **fields), True
        if content := data.get("initial_message"):
            try:
                async_to_sync(conversation.say)(Draft(room.pk, person(user), content))
            except ChatError:
                # Whoever is told that it failed will try again, and wants one room then.
                if is_new:
                    rooms.withdraw_room(room)
                raise
        return respond(representation.room_detail(self.room(str(room.pk)), user), 201 if is_new else 200)


class CreateRoom(Rooms):
    """The same as a `POST` to the list, as today's frontend calls it."""

    http_method_names = ("post", "options")

    @extend_schema(
        operation_id="create_room_with_message",
        request=serializers.NewRoom,
        responses=answers(representation.RoomDetail, created=True, named=True, writes=True),
    )
    def post(self, request: Request) -> Response:
        """Create a room, perhaps with a first message. The private room of two people is not made twice."""
        return super().post(request)


class CreateGroup(Rooms):
    """A room that is a group whatever the body says."""

    http_method_names = ("post", "options")

    @extend_schema(
        operation_id="create_group",
        request=serializers.NewRoom,
        responses=answers(representation.RoomDetail, created=True, named=True, writes=True),
    )
    def post(self, request: Request) -> Response:
        """Create a group."""
        wanted = self.body(serializers.NewRoom)
        if wanted.validated_data.get("room_type") == RoomType.PRIVATE:
            del wanted.validated_data["room_type"]
        return self._create(wanted, is_group=True)


@extend_schema(parameters=[ROOM_KEY])
class Room(ChatView):
    """One of my rooms."""

    @extend_schema(operation_id="read_room", responses=answers(representation.RoomDetail, named=True))
    def get(self, request: Request, key: str) -> Response:
        """One room with its newest messages."""
        room = self.room(key)
        detail = representation.room_detail(room, request.user)
        messages.mark_delivered([(room.pk, [request.user.pk], room.last_seq)])
        return respond(detail)

    @extend_schema(
        operation_id="replace_room",
        request=serializers.RoomFields,
        responses=answers(representation.RoomDetail, named=True, writes=True),
    )
    def put(self, request: Request, key: str) -> Response:
        """Change a room; what is left out stays as it is."""
        return self.patch(request, key)

    @extend_schema(
        operation_id="change_room",
        request=serializers.RoomFields,
        responses=answers(representation.RoomDetail, named=True, writes=True),
    )
    def patch(self, request: Request, key: str) -> Response:
        """Change a room; what is left out stays as it is."""
        room = self.room(key)
        data = dict(self.body(serializers.RoomFields).validated_data)
        participants = data.pop("participants", None)
        rooms.change_room(request.user, room, participants, **data)
        return respond(representation.room_detail(self.room(key), request.user))

    @extend_schema(operation_id="delete_room", responses=answers(None, named=True, writes=True))
    def delete(self, request: Request, key: str) -> Response:
        """Delete a room for everybody; it is marked as deleted, and kept."""
        rooms.delete_room(request.user, self.room(key))
        return Response(status=204)


@extend_schema(parameters=[ROOM_KEY])
class Leave(ChatView):
    """Myself in a room."""

    @extend_schema(operation_id="leave_room", request=None, responses=answers(None, named=True, writes=True))
    def post(self, request: Request, key: str) -> Response:
        """Leave a group. A class is left by whoever may moderate, and a private room by nobody."""
        rooms.leave_room(request.user, self.room(key))
        return Response(status=204)


class People(ChatView):
    """People whom I may write to."""

    @extend_schema(
        operation_id="list_people",
        parameters=[serializers.PeopleQuery],
        responses=answers(representation.People),
    )
    def get(self, request: Request) -> Response:
        """The first twenty of the people whom I may write to, by name: all, or those who share a room with me."""
        name = self.query(serializers.PeopleQuery).get("name", "")
        found = rooms.people_known_to(request.user, name)[:PEOPLE]
        return respond(representation.People([person(user) for user in found]))


@extend_schema(parameters=[ROOM_KEY])
class MarkAsRead(ChatView):
    """How far I have read a room."""

    @extend_schema(
        operation_id="mark_as_read",
        request=serializers.ReadUpTo,
        responses=answers(representation.ReadMark, named=True, writes=True),
    )
    def post(self, request: Request, key: str) -> Response:
        """I have read everything up to the newest message, or up to `seq`. The mark never goes back."""
        room = self.room(key)
        seq = self.body(serializers.ReadUpTo).validated_data.get("seq")
        async_to_sync(conversation.mark_read)(person(request.user), room.pk, seq)
        mine = Membership.objects.select_related("room").get(room=room, user=request.user)
        return respond(representation.ReadMark(room.pk, mine.read_seq, mine.room.last_seq - mine.read_seq))


class Messages(ChatView):
    """Messages that I may see, and new ones."""

    @extend_schema(
        operation_id="list_messages",
        parameters=[serializers.MessageQuery],
        responses=answers(representation.MessagePage, named=True),
    )
    def get(self, request: Request) -> Response:
        """Messages of a room, or of all my rooms, the newest last.

        `offset` counts from the oldest. Without `offset`, `before` and `after` this is the newest page, from which
        `previous` leads back.
        """
        query = self.query(serializers.MessageQuery)
        if key := query.get("room_id") or query.get("chat"):
            return respond(self._of_room(self.room(key), query))
        return respond(self._of_all_rooms(query))

    def _of_room(self, room: ChatRoom, query: dict[str, Any]) -> representation.MessagePage:
        limit, offset = query["limit"], query.get("offset")
        after = query.get("after", 0) if offset is None else offset
        before = min(query.get("before", room.last_seq + 1), room.last_seq + 1)
        from_the_end = offset is None and "after" not in query
        found = messages.between(room.pk, after, before, limit, from_the_end=from_the_end)
        if found:
            messages.mark_delivered([(room.pk, [self.request.user.pk], found[-1].seq)])
        marks = messages.statuses([room.pk])
        newer, older = self._links(
            query,
            # Messages are counted without a gap: how many there are needs no counting.
            count=room.last_seq,
            keys=[each.seq for each in found],
            has_newer=bool(found) and found[-1].seq < (room.last_seq if from_the_end else before - 1),
            has_older=bool(found) and found[0].seq > 1,
        )
        shown = [representation.message(each, room.school, marks) for each in found]
        return representation.MessagePage(room.last_seq, newer, older, shown)

    def _of_all_rooms(self, query: dict[str, Any]) -> representation.MessagePage:
        limit, offset = query["limit"], query.get("offset")
        mine = dict(self.request.user.rooms.filter(is_deleted=False).values_list("pk", "last_seq"))
        count = sum(mine.values())
        found = messages.complete().select_related("sender", "room__school").filter(room_id__in=mine)
        if offset is not None:
            page = list(found.order_by("pk")[offset : offset + limit]) if offset < count else []
            has_newer = has_older = True
        else:
            found = found.filter(pk__gt=query.get("after", 0), pk__lt=query.get("before", serializers.MAX_ID))
            from_the_end = "after" not in query
            # One more than asked for tells whether there are more.
            page = list(found.order_by("-pk" if from_the_end else "pk")[: limit + 1])
            is_cut, page = len(page) > limit, page[:limit]
            if from_the_end:
                page.reverse()
            has_newer = "before" in query if from_the_end else is_cut
            has_older = is_cut if from_the_end else query["after"] > 0
        newer, older = self._links(
            query, count=count, keys=[each.pk for each in page], has_newer=has_newer, has_older=has_older
        )
        marks = messages.statuses({each.room_id for each in page})
        shown = [representation.message(each, each.room.school, marks) for each in page]
        return representation.MessagePage(count, newer, older, shown)

    def _links(
        self, query: dict[str, Any], *, count: int, keys: list[int], has_newer: bool, has_older: bool
    ) -> tuple[str | None, str | None]:
        """The addresses of the next (newer) and of the previous page, by `offset` where that is how it is paged."""
        limit, offset = query["limit"], query.get("offset")
        if offset is not None:
            newer = self.link(offset=offset + limit) if offset + limit < count else None
            return newer, self.link(offset=max(0, offset - limit)) if offset > 0 else None
        if not keys:
            return None, None
        # From a page that was counted back from its end, the way forward has no end.
        end = {} if "after" in query else {"before": None}
        newer = self.link(after=keys[-1], **end) if has_newer else None
        return newer, self.link(before=keys[0], after=None) if has_older else None

    @extend_schema(
        operation_id="send_message",
        request={
            "application/json": serializers.NewMessage,
            "application/x-www-form-urlencoded": serializers.NewMessage,
            "multipart/form-data": serializers.NewMessageWithFiles,
        },
        responses=answers(representation.ChatMessageData, created=True, named=True, writes=True),
    )
    def post(self, request: Request) -> Response:
        """Send a message, perhaps with files. One that was sent before under the same `client_id` is returned."""
        wanted = self.body(serializers.NewMessage).validated_data
        room = self.room(wanted["room"])
        if refusal := rooms.refusal_to_write(room.room_type, request.user.role):
            raise refusal
        kept = _keep(request, wanted["message_type"])
        draft = Draft(
            room_id=room.pk,
            sender=person(request.user),
            content=wanted["content"],
            client_id=wanted.get("client_id"),
            message_type=wanted["message_type"],
            extra_data=wanted.get("extra_data"),
            files=kept,
        )
        try:
            stored = async_to_sync(conversation.say)(draft)
        except Exception as error:
            # One that may yet be stored needs them; else the journal removes them.
            if not isinstance(error, PendingError):
                _discard(kept)
            raise
        if not stored.is_new:
            _discard(kept)
        message = ChatMessage(room_id=room.pk, seq=stored.message.seq)
        marks = messages.statuses([room.pk])
        return respond(
            representation.message(message, room.school, marks, stored.message), 201 if stored.is_new else 200
        )


class CreateMessage(Messages):
    """The same as a `POST` to the list, as today's frontend calls it."""

    http_method_names = ("post", "options")

    @extend_schema(
        operation_id="send_message_with_files",
        request={
            "multipart/form-data": serializers.NewMessageWithFiles,
            "application/json": serializers.NewMessage,
            "application/x-www-form-urlencoded": serializers.NewMessage,
        },
        responses=answers(representation.ChatMessageData, created=True, named=True, writes=True),
    )
    def post(self, request: Request) -> Response:
        """Send a message, perhaps with files: `attachment`, `attachment_0`, `attachment_1`, …, `voice_note`."""
        return super().post(request)


def _keep(request: Request, message_type: str) -> tuple[StoredFile, ...]:
    """The uploaded files of a request, kept. Raises `ChatError`: `invalid_file`, `file_too_large`."""
    uploads = serializers.uploads(request.FILES)
    if len(uploads) > settings.MAX_FILES:
        raise ChatError(ErrorCode.INVALID_FILE, f"A message has at most {settings.MAX_FILES} files; send another one.")
    kept: list[StoredFile] = []
    try:
        for kind, upload in uploads:
            kept.append(files.store(upload, kind))
        files.check_message_type(message_type, kept)
    except Exception:
        _discard(kept)
        raise
    return tuple(kept)


def _discard(kept: Iterable[StoredFile]) -> None:
    for file in kept:
        files.discard(file)


class Message(ChatView):
    """One message in one of my rooms."""

    @extend_schema(operation_id="read_message", responses=answers(representation.ChatMessageData, named=True))
    def get(self, request: Request, pk: int) -> Response:
        """One message."""
        return self._show(rooms.message_of(request.user, pk))

    @extend_schema(
        operation_id="replace_message",
        request=serializers.MessageChange,
        responses=answers(representation.ChatMessageData, named=True, writes=True),
    )
    def put(self, request: Request, pk: int) -> Response:
        """Give my message another content."""
        return self.patch(request, pk)

    @extend_schema(
        operation_id="edit_message",
        request=serializers.MessageChange,
        responses=answers(representation.ChatMessageData, named=True, writes=True),
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Change my message; what is left out stays as it is."""
        message = rooms.message_of(request.user, pk)
        data = self.body(serializers.MessageChange).validated_data
        return self._show(messages.edit(request.user, message, data.get("content"), data.get("extra_data")))

    @extend_schema(operation_id="delete_message", responses=answers(None, named=True, writes=True))
    def delete(self, request: Request, pk: int) -> Response:
        """Delete my message, or as a moderator somebody else's; it is marked as deleted, and its files are removed."""
        messages.delete(request.user, rooms.message_of(request.user, pk))
        return Response(status=204)

    def _show(self, message: ChatMessage) -> Response:
        marks = messages.statuses([message.room_id])
        return respond(representation.message(message, message.room.school, marks))


class File(ChatView):
    """A file of a message, for the members of its room."""

    authentication_classes = (TokenAuthentication, AddressTokenAuthentication, PageAuthentication)

    @extend_schema(
        operation_id="read_file",
        parameters=[
            OpenApiParameter("Range", OpenApiTypes.STR, OpenApiParameter.HEADER, description="As in RFC 9110.")
        ],
        responses={
            (200, "*/*"): OpenApiTypes.BINARY,
            (206, "*/*"): OpenApiTypes.BINARY,
            416: OpenApiResponse(description="The file does not have the bytes that `Range` asks for."),
            **answers(None, named=True),
        },
    )
    def get(self, request: Request, uuid: UUID, name: str) -> HttpResponse:
        """The bytes of a file, as they were sent."""
        found = Attachment.objects.filter(
            pk=uuid,
            message__is_deleted=False,
            message__room__is_deleted=False,
            message__room__memberships__user=request.user,
        )
        if (attachment := found.first()) is None:
            raise exceptions.NotFound("There is no such file in your rooms.")
        return files.response(attachment, request)


@extend_schema(exclude=True)
class Nothing(ChatView):
    """Every other address below `/chats/`."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise exceptions.NotFound("There is nothing at this address; /docs/ shows what there is.")
