"""Tells open sockets what changed in a room, whichever way it was changed: a page of the admin, a command, a cascade.

Messages themselves come from `chat.conversation`; the journal stores them in bulk, which sends no signal.
"""

from asgiref.sync import async_to_sync
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_delete, post_save, pre_save
from django.dispatch import receiver

from chat import rooms
from chat.hub import hub
from chat.messages import message_data
from chat.models import ChatMessage, ChatRoom, Membership, RevokedToken, User
from chat.people import person
from chat.protocol import RoomUpdate, RoomUpdateData
from chat.watch import CHECK


def _announce(data: RoomUpdateData, **options: object) -> None:
    transaction.on_commit(lambda: async_to_sync(hub.publish_to_room)(data.room_id, RoomUpdate(data), **options))


def _announce_to(user_ids: list[int], data: RoomUpdateData) -> None:
    transaction.on_commit(lambda: async_to_sync(hub.publish_to_people)(user_ids, RoomUpdate(data)))


def _have_checked() -> None:
    """Have every process look at once who may still be connected."""
    transaction.on_commit(lambda: async_to_sync(hub.notify)(CHECK))


def _before(instance: Model) -> Model | None:
    return type(instance).objects.filter(pk=instance.pk).first() if instance.pk else None


@receiver(pre_save, sender=ChatRoom)
@receiver(pre_save, sender=Membership)
@receiver(pre_save, sender=ChatMessage)
@receiver(pre_save, sender=User)
def remember(sender: type[Model], instance: Model, **_kwargs: object) -> None:
    """Keep what was stored, so that what changes can be told once it is saved."""
    instance._before = _before(instance)


@receiver(post_save, sender=ChatRoom)
def room_saved(sender: type[Model], instance: ChatRoom, **_kwargs: object) -> None:
    before = instance._before
    if before is None:
        return
    if instance.is_deleted and not before.is_deleted:
        _announce(RoomUpdateData(room_id=instance.pk, kind="deleted"), then_empty=True)
    elif instance.name != before.name:
        _announce(RoomUpdateData(room_id=instance.pk, kind="renamed", name=instance.name))


@receiver(post_delete, sender=ChatRoom)
def room_deleted(sender: type[Model], instance: ChatRoom, **_kwargs: object) -> None:
    _announce(RoomUpdateData(room_id=instance.pk, kind="deleted"), then_empty=True)


@receiver(rooms.members_added)
def members_added(sender: type[Model], room: ChatRoom, users: list[User], **_kwargs: object) -> None:
    data = RoomUpdateData(room_id=room.pk, kind="participants_added", participants=[person(user) for user in users])
    _announce(data)
    # They cannot have joined yet, and this is how they learn of the room.
    _announce_to([user.pk for user in users], data)


@receiver(post_save, sender=Membership)
def membership_saved(sender: type[Model], instance: Membership, **_kwargs: object) -> None:
    before = instance._before
    if before and (before.room_id, before.user_id) == (instance.room_id, instance.user_id):
        return
    if before:
        _announce_removal(before)
    added = [person(instance.user)]
    data = RoomUpdateData(room_id=instance.room_id, kind="participants_added", participants=added)
    _announce(data)
    _announce_to([instance.user_id], data)


@receiver(post_delete, sender=Membership)
def membership_deleted(sender: type[Model], instance: Membership, **_kwargs: object) -> None:
    _announce_removal(instance)


def _announce_removal(membership: Membership) -> None:
    removed = [person(membership.user)]
    _announce(
        RoomUpdateData(room_id=membership.room_id, kind="participants_removed", participants=removed),
        then_remove=[membership.user_id],
    )


@receiver(post_save, sender=ChatMessage)
def message_saved(sender: type[Model], instance: ChatMessage, **_kwargs: object) -> None:
    before = instance._before
    if before is None:
        return
    if instance.is_deleted and not before.is_deleted:
        kind = "message_deleted"
    elif _shown(instance) != _shown(before):
        kind = "message_edited"
    else:
        return
    _announce(RoomUpdateData(room_id=instance.room_id, kind=kind, message=message_data(instance)))


def _shown(message: ChatMessage) -> tuple:
    return message.content, message.extra_data, message.is_deleted


@receiver(post_save, sender=User)
def user_saved(sender: type[Model], instance: User, **_kwargs: object) -> None:
    before = instance._before
    if before and (
        (before.is_active and not instance.is_active) or before.tokens_valid_after != instance.tokens_valid_after
    ):
        _have_checked()


@receiver(post_delete, sender=User)
@receiver(post_save, sender=RevokedToken)
def may_no_longer_be_here(sender: type[Model], **_kwargs: object) -> None:
    _have_checked()
