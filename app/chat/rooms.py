"""The rules of rooms, in one place: who may do what, where. All of it is synchronous and reads the database."""

from collections.abc import Iterable

from django.db import transaction
from django.db.models import QuerySet

from chat.models import ChatRoom, Membership, User
from chat.protocol import ChatError, ErrorCode


def invalid_room() -> ChatError:
    """The one answer for a room that does not exist and for one that is not hers: nobody can tell them apart."""
    return ChatError(ErrorCode.INVALID_ROOM, "Invalid room ID")


def require_member(user_id: int, room_id: int) -> None:
    """Raise `ChatError` (`invalid_room`) unless the person is active and a member of the living room."""
    if not Membership.objects.filter(
        room_id=room_id, user_id=user_id, room__is_deleted=False, user__is_active=True
    ).exists():
        raise invalid_room()


def strangers(joined: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of the pairs (room id, person id) in which the person is not, or no longer, an active member."""
    members = Membership.objects.filter(
        room_id__in={room_id for room_id, _ in joined},
        user_id__in={user_id for _, user_id in joined},
        room__is_deleted=False,
        user__is_active=True,
    )
    return joined - set(members.values_list("room_id", "user_id"))


def rooms_of(user: User) -> QuerySet[ChatRoom]:
    """Her rooms, the one with the newest activity first."""
    return user.rooms.filter(is_deleted=False).order_by("-last_update", "-id")


def people_sharing_a_room(user_id: int) -> list[int]:
    """The ids of the others who are in a room with her."""
    return list(
        User.objects.filter(rooms__in=ChatRoom.objects.filter(is_deleted=False, memberships__user_id=user_id))
        .exclude(pk=user_id)
        .values_list("pk", flat=True)
        .distinct()
    )


@transaction.atomic
def create_room(name: str, members: Iterable[User]) -> ChatRoom:
    """A new room with its members. Raises Django's `ValidationError` for a name that is empty or too long."""
    room = ChatRoom(name=name)
    room.full_clean()
    room.save()
    for member in members:
        Membership.objects.get_or_create(room=room, user=member)
    return room
