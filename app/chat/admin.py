"""The admin: users, rooms, memberships, messages."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chat.models import ChatMessage, ChatRoom, Membership, User

admin.site.site_header = admin.site.site_title = "Salon"


@admin.register(User)
class PersonAdmin(UserAdmin):
    list_display = ("username", "display_name", "role", "is_active", "last_seen")
    list_filter = ("role", "is_active", "is_staff")
    fieldsets = (*UserAdmin.fieldsets, (_("Chat"), {"fields": ("role", "avatar")}))
    add_fieldsets = (*UserAdmin.add_fieldsets, (_("Chat"), {"fields": ("role",)}))


class MembershipInline(admin.TabularInline):
    model = Membership
    autocomplete_fields = ("user",)
    extra = 1


@admin.register(ChatRoom)
class ChatRoomAdmin(admin.ModelAdmin):
    list_display = ("id", "name", "room_type", "is_deleted", "last_update")
    list_filter = ("room_type", "is_deleted")
    search_fields = ("name",)
    inlines = (MembershipInline,)

    def save_model(self, request: HttpRequest, obj: ChatRoom, form: ModelForm, change: bool) -> None:
        # Only what was changed is written: the count of messages goes on while somebody looks at this form.
        obj.save(update_fields=form.changed_data if change else None)


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):
    list_display = ("room", "user", "joined_at")
    list_select_related = ("room", "user")
    search_fields = ("room__name", "user__username")
    autocomplete_fields = ("room", "user")


@admin.register(ChatMessage)
class ChatMessageAdmin(admin.ModelAdmin):
    """Messages can be edited and marked deleted; a row is never taken out: a room counts its messages without a gap."""

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
        obj.last_update = timezone.now()
        super().save_model(request, obj, form, change)

    @admin.action(description=_("Mark the selected messages as deleted"), permissions=["change"])
    def mark_deleted(self, request: HttpRequest, queryset: QuerySet[ChatMessage]) -> None:
        for message in queryset.filter(is_deleted=False):
            message.is_deleted = True
            message.last_update = timezone.now()
            message.save(update_fields=["is_deleted", "last_update"])
