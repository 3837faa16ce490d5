"""The admin: people, schools, rooms, memberships, messages. Its rules are those of `chat.rooms`."""

import logging

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.forms import BaseInlineFormSet, ModelForm
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from chat import auth, messages, protocol, rooms
from chat.models import ChatMessage, ChatRoom, Membership, RoomType, School, User
from chat.protocol import ChatError
from salon.logs import about
from salon.pages import client_address

Message = list[dict] | str
"""What Django writes down of a change."""

admin.site.site_header = admin.site.site_title = "Salon"
admin.site.index_template = "chat/admin_index.html"

logger = logging.getLogger(__name__)


def _changed(field: str) -> Message:
    return [{"changed": {"fields": [field]}}]


class Logged:
    """What is done in the admin is told in the log too, where nobody of the admin can remove it: who changed which
    fields of what, and never what stands in them."""

    def log_addition(self, request: HttpRequest, obj: Model, message: Message) -> object:
        self._tell(request, "added", obj, message)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Message) -> object:
        self._tell(request, "changed", obj, message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet) -> object:
        for obj in queryset:
            self._tell(request, "deleted", obj, [])
        return super().log_deletions(request, queryset)

    def _tell(self, request: HttpRequest, deed: str, obj: Model, message: Message) -> None:
        parts = message if isinstance(message, list) else []
        fields = {field for part in parts for about in part.values() for field in about.get("fields", ())}
        inlines = {f"{kind} {about['name']}" for part in parts for kind, about in part.items() if "name" in about}
        logger.info(
            "%r (%d) at %s has %s %s %s%s",
            request.user.username,
            request.user.pk,
            client_address(request),
            deed,
            obj._meta.label,
            obj.pk,
            "".join(f"; {what}" for what in sorted(map(str, fields | inlines))),
            extra=about(f"admin.{deed}", user=request.user.pk, outcome="ok"),
        )


admin.site.unregister(Group)


@admin.register(Group)
class LoggedGroupAdmin(Logged, GroupAdmin):
    """Django's."""


@admin.register(User)
class PersonAdmin(Logged, UserAdmin):
    list_display = ("username", "display_name", "role", "is_active", "last_seen")
    list_filter = ("role", "is_active", "is_staff")
    fieldsets = (
        *UserAdmin.fieldsets,
        (_("Chat"), {"fields": ("role", "avatar", "subject", "tokens_valid_after")}),
    )
    add_fieldsets = (*UserAdmin.add_fieldsets, (_("Chat"), {"fields": ("role",)}))
    readonly_fields = ("tokens_valid_after",)
    actions = ("revoke_tokens",)

    @admin.action(description=_("Revoke all tokens of the selected people"), permissions=["change"])
    def revoke_tokens(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            auth.revoke_all(user)
            self.log_change(request, user, _changed("tokens_valid_after"))


@admin.register(School)
class SchoolAdmin(Logged, admin.ModelAdmin):
    list_display = ("name", "code")
    search_fields = ("name", "code")


class MembershipFormSet(BaseInlineFormSet):
    """The members of a room; those of a private one stay."""

    def clean(self) -> None:
        super().clean()
        if self.instance.room_type == RoomType.PRIVATE and self.has_changed():
            raise ValidationError(rooms.private_stays().sentence)


class MembershipInline(admin.TabularInline):
    model = Membership
    formset = MembershipFormSet
    autocomplete_fields = ("user",)
    extra = 1


class RoomForm(ModelForm):
    """A room, which stays private or does not become it."""

    def clean_room_type(self) -> str:
        room_type = self.cleaned_data["room_type"]
        if RoomType.PRIVATE in (room_type, self.initial.get("room_type")) and "room_type" in self.changed_data:
            raise ValidationError(_("A private room is opened by its two people, and stays one."))
        return room_type

    def clean(self) -> dict:
        cleaned = super().clean()
        if self.instance.pair and not cleaned.get("is_deleted"):
            same = ChatRoom.objects.filter(pair=self.instance.pair, is_deleted=False).exclude(pk=self.instance.pk)
            if same.exists():
                raise ValidationError(_("These two people have another private room by now."))
        return cleaned


@admin.register(ChatRoom)
class ChatRoomAdmin(Logged, admin.ModelAdmin):
    form = RoomForm
    readonly_fields = ("is_group",)
    list_display = ("id", "name", "room_type", "is_deleted", "last_update")
    list_filter = ("room_type", "is_deleted")
    search_fields = ("name",)
    inlines = (MembershipInline,)

    def save_model(self, request: HttpRequest, obj: ChatRoom, form: ModelForm, change: bool) -> None:
        # Only what was changed is written: the count of messages goes on while somebody looks at this form.
        obj.save(update_fields=form.changed_data if change else None)


@admin.register(Membership)
class MembershipAdmin(Logged, admin.ModelAdmin):
    list_display = ("room", "user", "joined_at")
    list_select_related = ("room", "user")
    search_fields = ("room__name", "user__username")
    autocomplete_fields = ("room", "user")
    # One by one, because a private room is looked at.
    actions = None

    def has_change_permission(self, request: HttpRequest, obj: Membership | None = None) -> bool:
        return super().has_change_permission(request, obj) and not _is_private(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Membership | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not _is_private(obj)


def _is_private(membership: Membership | None) -> bool:
    return membership is not None and membership.room.room_type == RoomType.PRIVATE


class MessageForm(ModelForm):
    """A message with another content, held to the rules of the wire."""

    def clean_content(self) -> str:
        try:
            has_files = self.instance.attachments.exists()
            return protocol.clean_content(self.cleaned_data["content"], may_be_empty=has_files)
        except ChatError as error:
            raise ValidationError(error.sentence) from None


@admin.register(ChatMessage)
class ChatMessageAdmin(Logged, admin.ModelAdmin):
    """Messages can be edited and marked deleted; a row is never taken out: a room counts its messages without a gap."""

    form = MessageForm
    list_display = ("id", "room", "sender", "created_at", "is_deleted")
    list_select_related = ("room", "sender")
    list_filter = ("is_deleted", "message_type")
    search_fields = ("content", "sender__username", "room__name")
    readonly_fields = ("room", "sender", "seq", "message_type", "created_at", "last_update")
    actions = ("mark_deleted",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ChatMessage | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ChatMessage, form: ModelForm, change: bool) -> None:
        if "is_deleted" in form.changed_data and obj.is_deleted:
            obj.is_deleted = False
            messages.mark_deleted(obj)
        else:
            messages.save_change(obj, *form.changed_data)

    @admin.action(description=_("Mark the selected messages as deleted"), permissions=["change"])
    def mark_deleted(self, request: HttpRequest, queryset: QuerySet[ChatMessage]) -> None:
        for message in queryset.filter(is_deleted=False):
            messages.mark_deleted(message)
            self.log_change(request, message, _changed("is_deleted"))
