"""The rules of rooms, in one place: who may do what, where. All of it is synchronous and reads the database."""

from collections.abc import Collection, Iterable
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Concat
from django.dispatch import Signal

from chat import sql
from chat.models import ChatMessage, ChatRoom, Membership, Role, RoomType, User
from chat.protocol import ChatError, ErrorCode

MODERATORS = frozenset({Role.TEACHER, Role.SCHOOL_ADMIN, Role.SUPER_ADMIN, Role.ADMIN})
"""Who may create rooms, invite, moderate, and write in announcement rooms."""

SEEN_OF_A_PERSON = ("id", "username", "first_name", "last_name", "role", "avatar")

# In plain SQL: everybody who joins a room is looked up, and the ORM takes longer to put this together than a database
# to answer it.
MEMBERS_AMONG = """
    WITH wanted (room_id, user_id) AS (VALUES {pairs: bigint, bigint})
    SELECT room.id, room.room_type,
        users.id, users.username, users.first_name, users.last_name, users.role, users.avatar
    FROM wanted
    JOIN chat_membership AS membership
        ON membership.room_id = wanted.room_id AND membership.user_id = wanted.user_id
    JOIN chat_chatroom AS room ON room.id = membership.room_id AND NOT room.is_deleted
    JOIN chat_user AS users ON users.id = membership.user_id AND users.is_active
"""

# A room of many is read once, and not once for each of its members who is asked for.
MEMBERS_OF_ROOMS_OF = """
    SELECT others.room_id, others.user_id FROM chat_membership AS others WHERE others.room_id IN (
        SELECT theirs.room_id
        FROM chat_membership AS theirs
        JOIN chat_chatroom AS room ON room.id = theirs.room_id
        WHERE theirs.user_id IN ({user_ids}) AND NOT room.is_deleted
    )
"""

members_added = Signal()
"""Several people came into a room at once: `room`, `users`. Single memberships send the signals of their model."""


def invalid_room() -> ChatError:
    """The one answer for a room that does not exist and for one that is not hers: nobody can tell them apart."""
    return ChatError(ErrorCode.INVALID_ROOM, "Invalid room ID")


def invalid_message() -> ChatError:
    """The one answer for a message that does not exist and for one in a room that is not hers."""
    return ChatError(ErrorCode.INVALID_MESSAGE, "There is no such message in your rooms.")


def may_moderate(role: str) -> bool:
    """Whether a person of this role may create rooms, invite, and delete what others wrote, in her own rooms."""
    return role in MODERATORS


def refusal_to_write(room_type: str, role: str) -> ChatError | None:
    """Why a member of this role may not write in a room of this type, or None when she may."""
    if room_type == RoomType.ANNOUNCEMENT and not may_moderate(role):
        return ChatError(ErrorCode.FORBIDDEN, "This room is for announcements; only teachers and administrators write.")
    return None


def require_moderator(user: User, deed: str) -> None:
    """Raise `ChatError` (`forbidden`) unless her role allows the deed, which is named like "create rooms"."""
    if not may_moderate(user.role):
        raise ChatError(ErrorCode.FORBIDDEN, f"Only teachers and administrators may {deed}.")


def require_member(user_id: int, room_id: int) -> Membership:
    """Her membership, with its room. Raises `ChatError` (`invalid_room`) where there is none that is alive."""
    try:
        return _living_memberships().select_related("room", "user").get(room_id=room_id, user_id=user_id)
    except Membership.DoesNotExist:
        raise invalid_room() from None


def _living_memberships() -> QuerySet[Membership]:
    return Membership.objects.filter(room__is_deleted=False, user__is_active=True)


def members_among(pairs: Collection[tuple[int, int]]) -> list[tuple[int, str, User]]:
    """Of pairs (room id, person id), those in which she is an active member of a living room, by one statement.

    For each the room's id, the room's type, and the person with what others see of her.
    """
    if not pairs:
        return []
    return [
        (room_id, room_type, User.from_db(connection.alias, SEEN_OF_A_PERSON, seen))
        for room_id, room_type, *seen in sql.rows(MEMBERS_AMONG, pairs=list(pairs))
    ]


def strangers(joined: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of the pairs (room id, person id) in which the person is not, or no longer, an active member."""
    return set(joined) - {(room_id, user.pk) for room_id, _, user in members_among(joined)}


def rooms_of(user: User) -> QuerySet[ChatRoom]:
    """Her rooms, the one with the newest activity first."""
    return user.rooms.filter(is_deleted=False).order_by("-last_update", "-id")


def room_of(user: User, key: str) -> ChatRoom:
    """The room of hers that has this id or uuid. Raises `ChatError` (`invalid_room`)."""
    try:
        wanted = {"pk": int(key)} if key.isdecimal() else {"uuid": UUID(key)}
        return rooms_of(user).select_related("school").get(**wanted)
    except (ChatRoom.DoesNotExist, ValueError, OverflowError):
        raise invalid_room() from None


def shown_name(room: ChatRoom, user: User) -> str:
    """What a room is called where she sees it: a private one, after the other person."""
    if room.room_type == RoomType.PRIVATE and (other := room.participants.exclude(pk=user.pk).first()):
        return other.display_name
    return room.name


def rooms_called(user: User, text: str) -> QuerySet[ChatRoom]:
    """Those of her rooms whose name, as she sees it, holds the text."""
    others = Membership.objects.filter(room=OuterRef("pk")).exclude(user=user)
    named = others.annotate(full_name=Concat("user__first_name", Value(" "), "user__last_name")).filter(
        Q(full_name__icontains=text) | Q(user__first_name="", user__last_name="", user__username__icontains=text)
    )
    return rooms_of(user).filter(
        (Q(name__icontains=text) & ~Q(room_type=RoomType.PRIVATE)) | (Q(room_type=RoomType.PRIVATE) & Exists(named))
    )


def people_sharing_a_room(user_id: int) -> list[int]:
    """The ids of the others who are in a room with her."""
    return list(
        User.objects.filter(rooms__in=ChatRoom.objects.filter(is_deleted=False, memberships__user_id=user_id))
        .exclude(pk=user_id)
        .values_list("pk", flat=True)
        .distinct()
    )


def people_sharing_rooms(user_ids: list[int]) -> dict[int, list[int]]:
    """For each of several people, the ids of the others who are in a room with her, by one statement."""
    members: dict[int, set[int]] = {}
    for room_id, user_id in sql.rows(MEMBERS_OF_ROOMS_OF, user_ids=user_ids):
        members.setdefault(room_id, set()).add(user_id)
    found: dict[int, set[int]] = {user_id: set() for user_id in user_ids}
    for here in members.values():
        for user_id in found.keys() & here:
            found[user_id] |= here
    return {user_id: list(others - {user_id}) for user_id, others in found.items()}


def people_with(ids: Collection[int]) -> list[User]:
    """The active people with these ids. Raises `ChatError` (`invalid_participants`) that names who is not there."""
    found = {user.pk: user for user in User.objects.filter(pk__in=ids, is_active=True)}
    if missing := sorted(set(ids) - found.keys()):
        raise ChatError(ErrorCode.INVALID_PARTICIPANTS, f"There is nobody with the id {', '.join(map(str, missing))}.")
    return list(found.values())


@transaction.atomic
def create_room(
    name: str,
    members: Iterable[User],
    *,
    room_type: str = RoomType.GROUP,
    details: str = "",
    extra_data: dict | None = None,
) -> ChatRoom:
    """A new room with its members. Raises Django's `ValidationError` for a name that is empty or too long."""
    room = ChatRoom(
        name=name,
        is_group=room_type != RoomType.PRIVATE,
        room_type=room_type,
        details=details,
        extra_data=extra_data,
    )
    members = list(dict.fromkeys(members))
    if room_type == RoomType.PRIVATE:
        room.pair = _pair(members)
    # That a pair has one room is the database's to say, for two who open theirs at once.
    room.full_clean(validate_constraints=False)
    room.save()
    _add(room, members)
    return room


def create_group(creator: User, participants: Collection[int], **wanted: object) -> ChatRoom:
    """A new room of the creator and the people with these ids; `wanted` as in `create_room`.

    Raises `ChatError`: `forbidden`, `invalid_participants`; Django's `ValidationError`.
    """
    require_moderator(creator, "create rooms")
    return create_room(members=[creator, *people_with(participants)], **wanted)


def open_private(creator: User, participants: Collection[int], **wanted: object) -> tuple[ChatRoom, bool]:
    """The private room of the creator and one other person, and whether it is new: two people never have two.

    Raises `ChatError`: `invalid_participants` unless there is exactly one other, `forbidden` for one whom she may not
    write to.
    """
    others = set(participants) - {creator.pk}
    if len(others) != 1:
        raise ChatError(
            ErrorCode.INVALID_PARTICIPANTS, "A private room is for you and one other person; name her, or make a group."
        )
    if not may_moderate(creator.role) and not others <= set(people_sharing_a_room(creator.pk)):
        raise ChatError(
            ErrorCode.FORBIDDEN, "You may open a private room only with somebody who shares a room with you."
        )
    members = [creator, *people_with(others)]
    # Each of the two sees it under the other's name.
    wanted = {**wanted, "name": "", "room_type": RoomType.PRIVATE}
    return _only_room(members, **wanted)


def private_room(members: list[User]) -> ChatRoom:
    """The private room of two people, made where they have none."""
    room, _ = _only_room(members, name="", room_type=RoomType.PRIVATE)
    return room


def _only_room(members: list[User], **wanted: object) -> tuple[ChatRoom, bool]:
    if room := _private_room(members):
        return room, False
    try:
        return create_room(members=members, **wanted), True
    except IntegrityError:
        # The other one has opened it at the same moment.
        if room := _private_room(members):
            return room, False
        raise


def _private_room(members: list[User]) -> ChatRoom | None:
    return ChatRoom.objects.filter(pair=_pair(members), is_deleted=False).first()


def _pair(members: list[User]) -> str:
    return ":".join(str(pk) for pk in sorted(member.pk for member in members))


def _add(room: ChatRoom, users: list[User]) -> None:
    # What was said before they came counts as read and delivered.
    marks = {"read_seq": room.last_seq, "delivered_seq": room.last_seq}
    Membership.objects.bulk_create([Membership(room=room, user=user, **marks) for user in users])
    members_added.send(ChatRoom, room=room, users=users)


def people_known_to(user: User, text: str) -> QuerySet[User]:
    """Whom she may write to, by name: everybody for those who may moderate, else those who share a room with her."""
    found = User.objects.filter(is_active=True).exclude(pk=user.pk)
    if not may_moderate(user.role):
        found = found.filter(pk__in=people_sharing_a_room(user.pk))
    for word in text.split():
        found = found.filter(Q(first_name__icontains=word) | Q(last_name__icontains=word) | Q(username__icontains=word))
    return found.order_by("first_name", "last_name", "username")


def leave_room(user: User, room: ChatRoom) -> None:
    """Take herself out of a room. Raises `ChatError` (`forbidden`): in a class, an announcement or a parents' room only
    those who may moderate decide who is in it, and a private one stays with its two people."""
    if room.room_type == RoomType.PRIVATE:
        raise private_stays()
    if room.room_type != RoomType.GROUP:
        require_moderator(user, "leave this room")
    room.memberships.get(user=user).delete()


def private_stays() -> ChatError:
    """What somebody is told who would change who is in a private room."""
    return ChatError(ErrorCode.FORBIDDEN, "A private room stays with its two people; make a group for more.")


def change_room(user: User, room: ChatRoom, participants: Collection[int] | None = None, **changes: object) -> ChatRoom:
    """Set fields of a room, and who is in it; who is named stays or comes, the others go, save for the user herself.

    Raises `ChatError`: `forbidden`, `invalid_participants`; Django's `ValidationError`.
    """
    require_moderator(user, "change rooms")
    with transaction.atomic():
        room = ChatRoom.objects.select_for_update().get(pk=room.pk)
        if room.room_type == RoomType.PRIVATE:
            changes.pop("name", None)
        for name, value in changes.items():
            setattr(room, name, value)
        room.full_clean()
        room.save(update_fields=list(changes))
        if participants is not None:
            _set_members(room, {user.pk, *participants})
    return room


def _set_members(room: ChatRoom, wanted: set[int]) -> None:
    # In the order of their ids, as everything that locks memberships does.
    locked = room.memberships.select_for_update(of=("self",)).order_by("pk")
    memberships = {membership.user_id: membership for membership in locked.select_related("user")}
    if wanted == memberships.keys():
        return
    if room.room_type == RoomType.PRIVATE:
        raise private_stays()
    if new := wanted - memberships.keys():
        _add(room, people_with(new))
    for user_id in memberships.keys() - wanted:
        memberships[user_id].delete()


def delete_room(user: User, room: ChatRoom) -> None:
    """Mark a room as deleted. Raises `ChatError` (`forbidden`)."""
    require_moderator(user, "delete rooms")
    withdraw_room(room)


def withdraw_room(room: ChatRoom) -> None:
    """Mark a room as deleted that could not be made whole."""
    room.is_deleted = True
    room.save(update_fields=["is_deleted"])


def message_of(user: User, message_id: int) -> ChatMessage:
    """The message with this id, in one of her rooms. Raises `ChatError` (`invalid_message`)."""
    try:
        return ChatMessage.objects.select_related("sender", "room__school").get(
            pk=message_id, room__is_deleted=False, room__memberships__user=user
        )
    except (ChatMessage.DoesNotExist, OverflowError):
        raise invalid_message() from None


def require_author(user: User, message: ChatMessage) -> None:
    """Raise `ChatError` (`forbidden`) unless she may edit the message: it is hers, and is not deleted."""
    if message.sender_id != user.pk:
        raise ChatError(ErrorCode.FORBIDDEN, "Only who wrote a message may edit it.")
    if message.is_deleted:
        raise ChatError(ErrorCode.FORBIDDEN, "This message was deleted; write a new one.")


def require_may_delete(user: User, message: ChatMessage) -> None:
    """Raise `ChatError` (`forbidden`) unless she wrote the message or may moderate."""
    if message.sender_id != user.pk:
        require_moderator(user, "delete what others wrote")
