"""Rooms, who is in them, and what was said: the tables of all contenders but Salon."""

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone


class Room(models.Model):
    name = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    room = models.ForeignKey(Room, models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["room", "user"], name="one_membership_per_room"),)

    def __str__(self) -> str:
        return f"{self.user_id} in {self.room_id}"


class Message(models.Model):
    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    # The index below starts with the room.
    room = models.ForeignKey(Room, models.PROTECT, db_index=False)
    sender = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT)
    content = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = (models.Index(fields=["room", "id"], name="messages_of_a_room"),)

    def __str__(self) -> str:
        return f"{self.room_id}/{self.pk}"
