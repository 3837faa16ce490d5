"""What the page at `/` starts with: who is there, her rooms, and what was said last in the one that is open.

It is small, for a slow link: the page has the rest from the HTTP API, and what is new over the WebSocket. All of it is
synchronous.
"""

from typing import Any

import msgspec
from django.conf import settings
from django.db.models import Count, F
from django.http import HttpRequest
from django.middleware.csrf import get_token

from chat import messages, protocol, rooms
from chat.models import ChatMessage, ChatRoom, FileKind, Membership, Role, RoomType, User
from chat.people import person
from chat.words import words

OPEN_WITH = 20
"""Messages of the open room."""

MAX_ROOMS = 200
"""Rooms that the page shows; as many as one connection joins."""

EXCERPT = 120
"""Characters of a room's last message."""


def start(request: HttpRequest) -> dict[str, Any]:
    """What the page's scripts begin with."""
    user = request.user
    found = list(rooms.rooms_of(user)[:MAX_ROOMS])
    shown = _rooms(found, user)
    chosen = request.GET.get("room", "")
    is_chosen = any(str(room["id"]) == chosen for room in shown)
    opened = int(chosen) if is_chosen else next((room["id"] for room in shown), None)
    newest = messages.newest(opened, OPEN_WITH) if opened else []
    return {
        "user": {**msgspec.to_builtins(person(user)), "mayModerate": rooms.may_moderate(user.role)},
        "rooms": shown,
        "room": opened,
        "isChosen": is_chosen,
        "messages": [msgspec.to_builtins(messages.message_data(each)) for each in newest],
        "csrf": get_token(request),
        "limits": {
            "content": protocol.MAX_CONTENT,
            "fileSize": settings.MAX_FILE_SIZE,
            "files": settings.MAX_FILES,
        },
        "roles": {value: str(label) for value, label in Role.choices},
        "roomTypes": {value: str(label) for value, label in RoomType.choices},
        "words": words(),
    }


def _rooms(found: list[ChatRoom], user: User) -> list[dict[str, Any]]:
    ids = [room.pk for room in found]
    mine = dict(Membership.objects.filter(room_id__in=ids, user=user).values_list("room_id", "read_seq"))
    counted = Membership.objects.filter(room_id__in=ids).values("room_id").annotate(count=Count("pk"))
    counts = dict(counted.values_list("room_id", "count"))
    newest = messages.complete().filter(room_id__in=ids, seq=F("room__last_seq"))
    last = {each.room_id: each for each in newest}
    private = [room.pk for room in found if room.room_type == RoomType.PRIVATE]
    others = Membership.objects.filter(room_id__in=private).exclude(user=user).select_related("user")
    recipients = {each.room_id: person(each.user) for each in others}
    marks = messages.statuses(ids)
    return [
        {
            "id": room.pk,
            "name": recipients[room.pk].name if room.pk in recipients else room.name,
            "type": room.room_type,
            "recipient": msgspec.to_builtins(recipients[room.pk]) if room.pk in recipients else None,
            "member_count": counts.get(room.pk, 0),
            "unread": max(0, room.last_seq - mine.get(room.pk, room.last_seq)),
            "last_seq": room.last_seq,
            "active_at": protocol.timestamp(room.last_update),
            "seen_up_to": marks.get(room.pk, (0, 0))[0],
            "last": _summary(last[room.pk]) if room.pk in last else None,
        }
        for room in found
    ]


def _summary(message: ChatMessage) -> dict[str, Any]:
    data = messages.message_data(message)
    kind = None
    if data.attachments:
        first = data.attachments[0]
        is_picture = first.content_type.startswith("image/")
        kind = "voice_note" if first.kind == FileKind.VOICE_NOTE else "a_picture" if is_picture else "a_file"
    return {
        "sender": data.sender,
        "by": data.sender_info.name,
        "content": data.content[:EXCERPT],
        "is_deleted": data.is_deleted,
        "created_at": data.created_at,
        "seq": data.seq,
        "kind": kind,
    }
