"""What is kept: people, rooms, who is in which room, messages and their files, who is present."""

import uuid

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now
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


class FileKind(models.TextChoices):
    ATTACHMENT = "attachment", _("Attachment")
    VOICE_NOTE = "voice_note", _("Voice note")


class Status(models.TextChoices):
    """How present a person is; who is offline has no row."""

    ONLINE = "online", _("Online")
    AWAY = "away", _("Away")


class User(AbstractUser):
    """A person.

    `last_seen` is when she was last here. `subject` is what a token's `sub` calls her where that is not her id. Tokens
    issued before `tokens_valid_after` are refused. `profile_issued_at` is when the token was issued that last changed
    what she is called.
    """

    role = models.CharField(_("role"), max_length=20, choices=Role, default=Role.STUDENT)
    avatar = models.CharField(_("avatar"), max_length=500, blank=True, help_text=_("A URL or a path of a picture."))
    last_seen = models.DateTimeField(_("last seen"), null=True, blank=True, editable=False)
    subject = models.CharField(_("subject of tokens"), max_length=255, unique=True, null=True, blank=True)
    tokens_valid_after = models.DateTimeField(_("tokens are valid after"), null=True, blank=True)
    profile_issued_at = models.DateTimeField(null=True, editable=False)

    @property
    def display_name(self) -> str:
        """The name that others see."""
        return display_name(self.first_name, self.last_name, self.username)


def display_name(first_name: str, last_name: str, username: str) -> str:
    """The name of a person that others see: the full name, or the user name where there is none."""
    return f"{first_name} {last_name}".strip() or username


class RevokedToken(models.Model):
    """One token that counts no more, by the SHA-256 of what was signed; kept until it would have expired anyway."""

    digest = models.CharField(max_length=64, primary_key=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.digest


class LoginAttempts(models.Model):
    """How often somebody has tried to log in, in vain: `key` stands for an account, an address, or both.

    `level` is how many attempts counted at `counted_at`; they are forgotten one by one (`chat.logins`). Nobody may try
    before `blocked_until`. `succeeded_at` is when this account last logged in from this address.
    """

    key = models.CharField(max_length=64, primary_key=True)
    level = models.FloatField(default=0)
    counted_at = models.DateTimeField()
    blocked_until = models.DateTimeField(null=True)
    succeeded_at = models.DateTimeField(null=True)
    touched_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.key


class School(models.Model):
    """A school, as a label of rooms: it grants and forbids nothing."""

    name = models.CharField(_("name"), max_length=200)
    code = models.CharField(_("code"), max_length=50, unique=True)

    class Meta:
        verbose_name = _("school")
        verbose_name_plural = _("schools")

    def __str__(self) -> str:
        return self.name


class ChatRoom(models.Model):
    """A room.

    `last_seq` is the sequence number of its newest message, 0 before the first. `pair` names the two people of a
    private room, so that they never have two; a private room needs no `name`.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(_("name"), max_length=200, blank=True)
    details = models.TextField(_("details"), blank=True)
    is_group = models.BooleanField(_("is a group"), default=True)
    room_type = models.CharField(_("type"), max_length=20, choices=RoomType, default=RoomType.GROUP)
    is_deleted = models.BooleanField(_("is deleted"), default=False)
    extra_data = models.JSONField(_("extra data"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    last_update = models.DateTimeField(_("last update"), default=timezone.now, editable=False)
    last_seq = models.BigIntegerField(default=0, editable=False)
    pair = models.CharField(max_length=50, null=True, editable=False)
    school = models.ForeignKey(
        School, models.SET_NULL, null=True, blank=True, related_name="rooms", verbose_name=_("school")
    )
    participants = models.ManyToManyField(
        User, through="Membership", related_name="rooms", verbose_name=_("participants")
    )

    class Meta:
        verbose_name = _("room")
        verbose_name_plural = _("rooms")
        constraints = (
            models.UniqueConstraint(
                fields=["pair"], condition=models.Q(is_deleted=False, pair__isnull=False), name="one_room_per_pair"
            ),
        )

    def __str__(self) -> str:
        return self.name or f"#{self.pk}"

    def clean(self) -> None:
        """Raise `ValidationError` unless the room has a name, or is a private one."""
        if not self.name.strip() and self.room_type != RoomType.PRIVATE:
            raise ValidationError({"name": _("A group needs a name.")})
        if self.extra_data is not None and not isinstance(self.extra_data, dict):
            raise ValidationError({"extra_data": _("This is not a JSON object.")})


class Membership(models.Model):
    """One person in one room.

    She has read everything up to the sequence number `read_seq`, and her devices have received everything up to
    `delivered_seq`, which is never below it. What was said before she came counts as read.
    """

    room = models.ForeignKey(ChatRoom, models.CASCADE, related_name="memberships", verbose_name=_("room"))
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships", verbose_name=_("person"))
    joined_at = models.DateTimeField(_("joined"), default=timezone.now, editable=False)
    read_seq = models.BigIntegerField(default=0, db_default=0, editable=False)
    delivered_seq = models.BigIntegerField(default=0, db_default=0, editable=False)

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        constraints = (models.UniqueConstraint(fields=["room", "user"], name="one_membership_per_room"),)

    def __str__(self) -> str:
        return f"{self.user} in {self.room}"

    def save(self, *args: object, **options: object) -> None:
        if self._state.adding:
            self.read_seq = self.delivered_seq = self.room.last_seq
        super().save(*args, **options)


class ChatMessage(models.Model):
    """A message.

    `seq` counts the messages of its room from 1, without a gap. `client_id` is the name that its sender's program gave
    it: sent again under the same one, it is the same message.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    # The constraint below starts with the room: its index serves this column too.
    room = models.ForeignKey(ChatRoom, models.PROTECT, related_name="messages", verbose_name=_("room"), db_index=False)
    seq = models.BigIntegerField(editable=False)
    # A conversation keeps its sense only with all that was said in it: a person who leaves is deactivated.
    sender = models.ForeignKey(User, models.PROTECT, related_name="messages", verbose_name=_("sender"))
    content = models.TextField(_("content"), max_length=2000, blank=True)
    client_id = models.CharField(max_length=64, null=True, editable=False)
    message_type = models.CharField(_("type"), max_length=10, choices=MessageType, default=MessageType.TEXT)
    extra_data = models.JSONField(_("extra data"), null=True, blank=True)
    is_deleted = models.BooleanField(_("is deleted"), default=False)
    created_at = models.DateTimeField(_("created"), editable=False)
    last_update = models.DateTimeField(_("last update"), editable=False)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints = (
            models.UniqueConstraint(fields=["room", "seq"], name="one_message_per_seq"),
            models.UniqueConstraint(
                fields=["room", "sender", "client_id"],
                condition=models.Q(client_id__isnull=False),
                name="one_message_per_client_id",
            ),
        )
        indexes = (
            # Few messages are changed after they were sent; who comes back asks for those.
            models.Index(
                fields=["room", "last_update"],
                condition=models.Q(last_update__gt=models.F("created_at")),
                name="changed_messages",
            ),
        )

    def __str__(self) -> str:
        return f"{self.room_id}/{self.seq}"


class Attachment(models.Model):
    """A file of a message. Its bytes are kept under its `uuid`; `name` is what its sender called it.

    `size` is in bytes; `content_type` was told by the content.
    """

    uuid = models.UUIDField(default=uuid.uuid4, primary_key=True, editable=False)
    message = models.ForeignKey(ChatMessage, models.CASCADE, related_name="attachments", verbose_name=_("message"))
    kind = models.CharField(_("kind"), max_length=10, choices=FileKind)
    position = models.PositiveSmallIntegerField(default=0)
    name = models.CharField(_("name"), max_length=255)
    content_type = models.CharField(_("content type"), max_length=100)
    size = models.BigIntegerField(_("size"))

    class Meta:
        verbose_name = _("file")
        verbose_name_plural = _("files")
        ordering = ("position",)

    def __str__(self) -> str:
        return self.name


class ServerProcess(models.Model):
    """A process that serves connections. It says again and again that it lives; after `expires_at` it does not."""

    uuid = models.UUIDField(primary_key=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return str(self.uuid)


class Presence(models.Model):
    """A person who is connected to a process: with how many connections, and how present they say she is.

    `status` is empty when all of them have said that she is offline.
    """

    process = models.ForeignKey(ServerProcess, models.CASCADE, related_name="presences")
    user = models.ForeignKey(User, models.CASCADE, related_name="presences")
    status = models.CharField(max_length=10, choices=Status, blank=True)
    connections = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["process", "user"], name="one_presence_per_process"),)

    def __str__(self) -> str:
        return f"{self.user_id}: {self.status or 'offline'}"


class Change(models.Model):
    """A line of the log in which the database itself notes who may be where, and who is who, no longer as before.

    Triggers write it, whoever makes the change. It concerns the membership of `user_id` in `room_id`; or, with only one
    of them, the room or the person; or `digest`, the revoked token or the session that has ended; with none of them,
    anybody. `transaction` is PostgreSQL's number of the transaction that wrote it. A line with `pruned_to` says that
    all lines before that place in the log are gone.
    """

    room_id = models.BigIntegerField(null=True)
    user_id = models.BigIntegerField(null=True)
    digest = models.CharField(max_length=64, null=True)
    transaction = models.BigIntegerField(null=True, db_index=True)
    pruned_to = models.BigIntegerField(null=True)
    at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.pk}: room {self.room_id}, person {self.user_id}"
