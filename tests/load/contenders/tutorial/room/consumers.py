"""The consumer that the tutorial of Channels leads to, with messages that are kept and people who are known."""

from urllib.parse import parse_qs

import jwt
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from django.contrib.auth.models import User

from room.models import Membership, Message


class ChatConsumer(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        self.rooms = set()
        token = parse_qs(self.scope["query_string"].decode()).get("token", [""])[0]
        try:
            claims = jwt.decode(token, settings.TOKEN_KEY, algorithms=["HS256"])
            self.user = await self.load_user(claims["user_id"])
        except (jwt.InvalidTokenError, User.DoesNotExist):
            await self.close()
            return
        await self.accept()

    async def disconnect(self, code: int) -> None:
        for room_id in self.rooms:
            await self.channel_layer.group_discard(f"chat_{room_id}", self.channel_name)

    async def receive_json(self, content: dict, **options: object) -> None:
        data = content["data"]
        match content["type"]:
            case "join_room":
                await self.join(data["room_id"])
            case "message":
                await self.say(data["room_id"], data["content"])
            case "ping":
                await self.send_json({"type": "pong", "data": {}})

    async def join(self, room_id: int) -> None:
        if not await self.is_member(room_id):
            await self.send_json({"type": "error", "data": {"error": "Invalid room ID"}})
            return
        self.rooms.add(room_id)
        await self.channel_layer.group_add(f"chat_{room_id}", self.channel_name)

    async def say(self, room_id: int, text: str) -> None:
        if room_id not in self.rooms:
            await self.send_json({"type": "error", "data": {"error": "Invalid room ID"}})
            return
        message = await self.save(room_id, text)
        await self.channel_layer.group_send(f"chat_{room_id}", {"type": "chat.message", "message": message})

    async def chat_message(self, event: dict) -> None:
        message = event["message"]
        await self.send_json(
            {"type": "message", "data": message, "room_id": message["chat"], "timestamp": message["created_at"]}
        )

    @database_sync_to_async
    def load_user(self, user_id: int) -> User:
        return User.objects.get(pk=user_id, is_active=True)

    @database_sync_to_async
    def is_member(self, room_id: int) -> bool:
        return Membership.objects.filter(room_id=room_id, user=self.user).exists()

    @database_sync_to_async
    def save(self, room_id: int, text: str) -> dict:
        message = Message.objects.create(room_id=room_id, sender=self.user, content=text)
        return {
            "id": message.pk,
            "uuid": str(message.uuid),
            "seq": message.pk,
            "content": message.content,
            "sender": self.user.pk,
            "chat": room_id,
            "created_at": message.created_at.isoformat(),
            "last_update": message.created_at.isoformat(),
            "is_deleted": False,
            "extra_data": None,
            "message_type": "text",
            "attachment_url": None,
            "voice_note_url": None,
            "attachments": [],
            "client_id": None,
            "sender_info": {"id": self.user.pk, "name": self.user.get_full_name(), "role": "student", "avatar": None},
        }
