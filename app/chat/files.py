"""Files of messages."""

from dataclasses import dataclass
from urllib.parse import quote
from uuid import UUID

from django.conf import settings

from chat.models import Attachment
from chat.protocol import AttachmentData


@dataclass(frozen=True)
class StoredFile:
    """A file whose bytes are safe, and which no message has yet. `size` is in bytes."""

    uuid: UUID
    kind: str
    name: str
    content_type: str
    size: int


def attachment_data(file: Attachment | StoredFile) -> AttachmentData:
    """A file as it goes over the wire."""
    url = f"{settings.PUBLIC_URL}/chats/files/{file.uuid}/{quote(file.name)}"
    return AttachmentData(url, file.name, file.content_type, file.size, file.kind)
