"""What is kept: people, rooms, who is in which room, messages."""

import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Role(models.TextChoices):
    """What a person is in the school; the names are the frontend's."""

    TEACHER = "teacher", _("Teacher")
    STUDENT = "student", _("Student")
    PARENT = "parent", _("Parent")
    SCHOOL_ADMIN = "school_admin", _("School administrator")
    SUPER_ADMIN = "super_admin", _("Super administrator")
    ADMIN = "admin", _("Administrator")


class RoomType(models.TextChoices):
    PRIVATE = "private", _("Private")
    GROUP = "group", _("Group")
    CLASS = "class", _("Class")
    ANNOUNCEMENT = "announcement", _("Announcement")
    PARENT = "parent", _("Parents")


class MessageType(models.TextChoices):
    TEXT = "text", _("Text")
    IMAGE = "image", _("Image")
    FILE = "file", _("File")
    AUDIO = "audio", _("Audio")
    VIDEO = "video", _("Video")


class User(AbstractUser):
    """A person. `last_seen` is when she last told her status."""

    role = models.CharField(_("role"), max_length=20, choices=Role, default=Role.STUDENT)
    avatar = models.CharField(_("avatar"), max_length=500, blank=True, help_text=_("A URL or a path of a picture."))
    last_seen = models.DateTimeField(_("last seen"), null=True, blank=True, editable=False)

    @property
    def display_name(self) -> str:
        """The name that others see: the full name, or the user name where there is none."""
        return self.get_full_name() or self.username


class ChatRoom(models.Model):
    """A room. `last_seq` is the sequence number of its newest message, 0 before the first."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(_("name"), max_length=200)
    details = models.TextField(_("details"), blank=True)
    is_group = models.BooleanField(_("is a group"), default=True)
    room_type = models.CharField(_("type"), max_length=20, choices=RoomType, default=RoomType.GROUP)
    is_deleted = models.BooleanField(_("is deleted"), default=False)
    extra_data = models.JSONField(_("extra data"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    last_update = models.DateTimeField(_("last update"), default=timezone.now, editable=False)
    last_seq = models.BigIntegerField(default=0, editable=False)
    participants = models.ManyToManyField(
        User, through="Membership", related_name="rooms", verbose_name=_("participants")
    )

    class Meta:
        verbose_name = _("room")
        verbose_name_plural = _("rooms")

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """One person in one room."""

    room = models.ForeignKey(ChatRoom, models.CASCADE, related_name="memberships", verbose_name=_("room"))
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships", verbose_name=_("person"))
    joined_at = models.DateTimeField(_("joined"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        constraints = (models.UniqueConstraint(fields=["room", "user"], name="one_membership_per_room"),)

    def __str__(self) -> str:
        return f"{self.user} in {self.room}"


class ChatMessage(models.Model):
    """A message. `seq` counts the messages of its room from 1, without a gap."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    room = models.ForeignKey(ChatRoom, models.PROTECT, related_name="messages", verbose_name=_("room"))
    seq = models.BigIntegerField(editable=False)
    # A conversation keeps its sense only with all that was said in it: a person who leaves is deactivated.
    sender = models.ForeignKey(User, models.PROTECT, related_name="messages", verbose_name=_("sender"))
    content = models.TextField(_("content"), max_length=2000)
    message_type = models.CharField(_("type"), max_length=10, choices=MessageType, default=MessageType.TEXT)
    extra_data = models.JSONField(_("extra data"), null=True, blank=True)
    is_deleted = models.BooleanField(_("is deleted"), default=False)
    created_at = models.DateTimeField(_("created"), editable=False)
    last_update = models.DateTimeField(_("last update"), editable=False)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints = (models.UniqueConstraint(fields=["room", "seq"], name="one_message_per_seq"),)

    def __str__(self) -> str:
        return f"{self.room_id}/{self.seq}"
