"""Files of messages: checked, kept under a name of our own, and served.

What a file is, its content tells and never its sender. Nothing is served that a browser would run: HTML, SVG, XML and
scripts are text to download.
"""

import codecs
import contextlib
import logging
import os
import re
import stat
import struct
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote
from uuid import UUID, uuid4

import puremagic
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.http import content_disposition_header

from chat.models import Attachment, FileKind, MessageType
from chat.protocol import AttachmentData, ChatError, ErrorCode

logger = logging.getLogger(__name__)

MAX_NAME = 255
"""Characters (code points) of a file's name."""

BROWSER_CACHE = 24 * 3600
"""Seconds that a browser may show a file without asking again, and so whether its person is still in the room."""

HEAD = 4096
"""Bytes from the start that tell what a file is."""

UNKNOWN = "application/octet-stream"
TEXT = "text/plain"
OLE = "application/x-ole-storage"

# Where puremagic's word is good. It answers with every name that a file might have, by signatures of two bytes, in the
# middle, or from the end too: what counts is one of these names, for a signature that the file starts with.
SIGNATURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".gif": "image/gif",
    ".pdf": "application/pdf",
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".amr": "audio/amr",
    ".7z": "application/x-7z-compressed",
    ".rar": "application/vnd.rar",
    ".gz": "application/gzip",
}

OFFICE = "application/vnd.openxmlformats-officedocument."
DOCX = f"{OFFICE}wordprocessingml.document"
XLSX = f"{OFFICE}spreadsheetml.sheet"
PPTX = f"{OFFICE}presentationml.presentation"
OPENDOCUMENT = {
    f"application/vnd.oasis.opendocument.{kind}" for kind in ("text", "spreadsheet", "presentation", "graphics")
}
ZIP = "application/zip"
ZIPPED = {ZIP, DOCX, XLSX, PPTX, *OPENDOCUMENT}

# One container for sound and for pictures with sound: which of them it holds, its sender may say.
AS_AUDIO = {
    "video/webm": "audio/webm",
    "video/mp4": "audio/mp4",
    "video/3gpp": "audio/3gpp",
    "video/ogg": "audio/ogg",
}
MP4 = {"video/mp4", "audio/mp4", "video/quicktime", "video/3gpp"}
OGG = {"video/ogg", "audio/ogg"}
MATROSKA = {"video/webm", "video/x-matroska"}
MPEG_AUDIO = {"audio/mpeg", "audio/aac"}

# What a file may be whose name ends so; any other name promises nothing. Office keeps a document with a password, and
# every one of its older kinds, in OLE storage.
CLAIMS = {
    "png": {"image/png"},
    "jpg": {"image/jpeg"},
    "jpeg": {"image/jpeg"},
    "gif": {"image/gif"},
    "webp": {"image/webp"},
    "avif": {"image/avif"},
    "heic": {"image/heic"},
    "heif": {"image/heic"},
    "pdf": {"application/pdf"},
    "mp3": MPEG_AUDIO,
    "aac": MPEG_AUDIO,
    "wav": {"audio/wav"},
    "flac": {"audio/flac"},
    "amr": {"audio/amr"},
    "m4a": MP4,
    "mp4": MP4,
    "m4v": MP4,
    "mov": MP4,
    "3gp": MP4,
    "ogg": OGG,
    "oga": OGG,
    "ogv": OGG,
    "opus": OGG,
    "webm": MATROSKA,
    "weba": MATROSKA,
    "mkv": MATROSKA,
    "avi": {"video/x-msvideo"},
    "docx": {DOCX, OLE},
    "xlsx": {XLSX, OLE},
    "pptx": {PPTX, OLE},
    "odt": OPENDOCUMENT,
    "ods": OPENDOCUMENT,
    "odp": OPENDOCUMENT,
    "zip": ZIPPED,
    "7z": {"application/x-7z-compressed"},
    "rar": {"application/vnd.rar"},
    "gz": {"application/gzip"},
}

# The brand in the first box of an ISO base media file (ISO/IEC 14496-12, 4.3), by how it starts.
BRANDS = {
    b"M4A": "audio/mp4",
    b"M4B": "audio/mp4",
    b"qt": "video/quicktime",
    b"3g": "video/3gpp",
    b"hei": "image/heic",
    b"hev": "image/heic",
    b"mif1": "image/heic",
    b"msf1": "image/heic",
    b"avi": "image/avif",
    b"iso": "video/mp4",
    b"mp4": "video/mp4",
    b"mp7": "video/mp4",
    b"avc1": "video/mp4",
    b"dash": "video/mp4",
    b"cmf": "video/mp4",
    b"M4V": "video/mp4",
    b"MSNV": "video/mp4",
    b"f4v": "video/mp4",
}

# Shown in the browser; everything else is downloaded.
INLINE = ("image/", "audio/", "video/", "application/pdf")
# A message that is one of these has such a file.
NEEDED = {MessageType.IMAGE: "image", MessageType.AUDIO: "audio", MessageType.VIDEO: "video"}

# No script, and nothing from elsewhere; the styles are those that a browser puts a picture on its page with.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
# In a sandbox a browser's player may not fetch what it plays.
PLAYER_POLICY = "default-src 'none'; style-src 'unsafe-inline'; media-src 'self'"


@dataclass(frozen=True)
class StoredFile:
    """A file whose bytes are kept. `size` is in bytes; `content_type` was told by the content."""

    uuid: UUID
    kind: str
    name: str
    content_type: str
    size: int


def store(upload: UploadedFile, kind: str) -> StoredFile:
    """Keep an uploaded file; once this returns, its bytes are on the disk.

    Raises `ChatError`: `file_too_large`, `invalid_file`, or `unavailable` when the disk does not take it.
    """
    name = clean_name(upload.name or "")
    size = upload.size or 0
    if size > settings.MAX_FILE_SIZE:
        raise ChatError(
            ErrorCode.FILE_TOO_LARGE,
            f'"{name}" has {_megabytes(size)} MB; a file may have {_megabytes(settings.MAX_FILE_SIZE)} MB at most. '
            "Send a smaller one.",
        )
    if size == 0:
        raise ChatError(ErrorCode.INVALID_FILE, f'"{name}" is empty; choose a file with something in it.')
    content_type = _checked_type(upload, name, kind)
    uuid = uuid4()
    try:
        _write(upload, _path(uuid))
    except OSError as error:
        logger.exception("A file could not be kept")
        raise ChatError(ErrorCode.UNAVAILABLE, f'The server could not keep "{name}"; try again in a moment.') from error
    return StoredFile(uuid, kind, name, content_type, size)


def discard(file: StoredFile | UUID) -> None:
    """Remove the bytes of a file, if they are still there."""
    _path(file if isinstance(file, UUID) else file.uuid).unlink(missing_ok=True)


def attachment_data(file: Attachment | StoredFile) -> AttachmentData:
    """A file as it goes over the wire."""
    url = f"{settings.PUBLIC_URL}/chats/files/{file.uuid}/{quote(file.name, safe='')}"
    return AttachmentData(url, file.name, file.content_type, file.size, file.kind)


def check_message_type(message_type: str, files: Sequence[StoredFile]) -> None:
    """An image, audio or video message has at least one such file; else `ChatError` (`invalid_file`)."""
    needed = NEEDED.get(message_type)
    if needed is None:
        return
    for file in files:
        # What holds sound or pictures with sound may be sent as either.
        if file.content_type.startswith(f"{needed}/") or (needed == "audio" and file.content_type in AS_AUDIO):
            return
    raise ChatError(
        ErrorCode.INVALID_FILE,
        f"The message is of the type {message_type} and has no such file; attach one, or send it as a file.",
    )


@receiver(post_delete, sender=Attachment)
def attachment_deleted(sender: type[Model], instance: Attachment, **_kwargs: object) -> None:
    """The bytes go with the row, once that is gone for good."""
    uuid = instance.uuid
    transaction.on_commit(lambda: discard(uuid), robust=True)


# Names


def clean_name(name: str) -> str:
    """What a file is called: without a path, without characters that cannot be seen or that turn others round."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    name = "".join(character for character in name if not _is_hidden(character)).strip().rstrip(". ")
    if len(name) > MAX_NAME:
        extension = _extension(name)
        ending = f".{extension}" if len(extension) <= 16 else ""
        name = name[: MAX_NAME - len(ending)] + name[len(name) - len(ending) :]
    return name or "file"


def _is_hidden(character: str) -> bool:
    # Control characters, halves of surrogate pairs, line and paragraph separators; the rest is Unicode's Bidi_Control.
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI_CONTROLS


_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _extension(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.1f}".removesuffix(".0")


# Types


def _checked_type(upload: UploadedFile, name: str, kind: str) -> str:
    """The content type that a file is stored with; `ChatError` where it is not what its name or its kind says."""
    extension = _extension(name)
    told = _content_type(upload, extension)
    if extension in CLAIMS and told not in CLAIMS[extension]:
        raise ChatError(
            ErrorCode.INVALID_FILE,
            f'"{name}" ends with .{extension}, but its content is something else ({told}) or damaged; '
            "send the original file, or give it the right ending.",
        )
    claims_audio = kind == FileKind.VOICE_NOTE or (upload.content_type or "").startswith("audio/")
    content_type = AS_AUDIO.get(told, told) if claims_audio else told
    if kind == FileKind.VOICE_NOTE and not content_type.startswith("audio/"):
        raise ChatError(ErrorCode.INVALID_FILE, f'"{name}" is no sound; send a recording as the voice note.')
    if content_type == TEXT and extension == "csv":
        return "text/csv"
    return UNKNOWN if content_type == OLE else content_type


def _content_type(file: UploadedFile, extension: str) -> str:
    """What a file is, by its content; the extension counts only where the content alone says too little."""
    file.seek(0)
    head = file.read(HEAD)
    # Of the signatures that are trusted only PDF's may begin what is text from its first to its last byte.
    if _is_text(file):
        return "application/pdf" if head.startswith(b"%PDF-") else TEXT
    return _container(head, file) or _signature(head) or _bare_audio(head, extension) or UNKNOWN


def _is_text(file: UploadedFile) -> bool:
    """Whether it is UTF-8 without NUL."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in file.chunks():
            if b"\0" in chunk:
                return False
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _signature(head: bytes) -> str | None:
    try:
        matches = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return None
    found = {match.extension for match in matches if len(match.byte_match) > 2 and head.startswith(match.byte_match)}
    return next((content_type for extension, content_type in SIGNATURES.items() if extension in found), None)


def _container(head: bytes, file: IO[bytes]) -> str | None:
    """What one of the formats holds that serve for many kinds of content."""
    if head.startswith(b"RIFF"):
        forms = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
        return forms.get(head[8:12])
    if head.startswith(b"\x1a\x45\xdf\xa3"):  # EBML (RFC 8794); the type of document stands in its header
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    if head.startswith(b"OggS"):
        return "video/ogg" if b"theora" in head else "audio/ogg"
    if head[4:8] == b"ftyp":
        return next((told for brand, told in BRANDS.items() if head.startswith(brand, 8)), None)
    if head.startswith(b"PK\x03\x04"):
        return _zipped(file)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return OLE
    return None


def _bare_audio(head: bytes, extension: str) -> str | None:
    """MPEG audio without a tag before it: eleven bits of synchronisation are too few without the name."""
    start = int.from_bytes(head[:2])
    if extension == "mp3" and start & 0xFFE6 == 0xFFE2:
        return "audio/mpeg"
    if extension == "aac" and start & 0xFFF6 == 0xFFF0:
        return "audio/aac"
    return None


def _zipped(file: IO[bytes]) -> str | None:
    """What a ZIP archive is, by the names in its directory; None where it has none."""
    names = set(_zip_names(file))
    if not names:
        return None
    if b"[Content_Types].xml" in names:
        for directory, told in ((b"word/", DOCX), (b"xl/", XLSX), (b"ppt/", PPTX)):
            if any(name.startswith(directory) for name in names):
                return told
    if b"mimetype" in names:
        # OpenDocument, part 2, 3.3: the first entry, not compressed, so that the type stands at a known place.
        file.seek(0)
        head = file.read(128)
        for told in OPENDOCUMENT:
            if head.startswith(b"mimetype" + told.encode(), 30):
                return told
    return ZIP


def _zip_names(file: IO[bytes]) -> Iterator[bytes]:
    """The names in an archive's central directory (APPNOTE 4.3.12, 4.3.16), of which the first megabyte is read."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - 22 - 0xFFFF)
    file.seek(start)
    tail = file.read()
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or found + 22 > len(tail):
        return
    size, offset = struct.unpack_from("<2L", tail, found + 12)
    file.seek(min(offset, end))
    directory = file.read(min(size, 2**20))
    at = 0
    while directory.startswith(b"PK\x01\x02", at) and at + 46 <= len(directory):
        name, extra, comment = struct.unpack_from("<3H", directory, at + 28)
        yield directory[at + 46 : at + 46 + name]
        at += 46 + name + extra + comment


# The disk


def _place(uuid: UUID) -> str:
    """Where the bytes are, below the directory of files; a directory of many thousands would be slow to list."""
    return f"{uuid.hex[:2]}/{uuid}"


def _path(uuid: UUID) -> Path:
    return settings.FILES_DIR / _place(uuid)


def _write(upload: UploadedFile, path: Path) -> None:
    """Write the bytes aside, and give them their name once they are on the disk."""
    _make_directory(path.parent)
    aside = path.with_suffix(".part")
    try:
        # Its group is the directory's: a web server that serves the bytes itself reads them as that.
        with aside.open("xb") as file:
            os.fchmod(file.fileno(), 0o640)
            for chunk in upload.chunks():
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        _sync(path.parent)
        # Somebody else may be about to, who has just made the directory.
        _sync(path.parent.parent)
    except BaseException:
        aside.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise


def _make_directory(directory: Path) -> None:
    """Make a directory and those above it, for the owner and the group, so that they outlast a crash."""
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o750)
        mode = directory.stat().st_mode
        # One that hands its group down has the mode that the host means it to have, and a process that may not set
        # that bit would take it away.
        if not mode & stat.S_ISGID:
            directory.chmod(0o750)
        _sync(directory.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Over HTTP


def response(attachment: Attachment, request: HttpRequest | None = None, *, download: bool = False) -> HttpResponse:
    """The answer that holds a file's bytes, or, with `ACCEL_LOCATION`, tells nginx where they are.

    `request`: for its `Range`, which a player seeks with. `download`: to be saved even where a browser could show it.
    Raises `Http404` when the bytes are gone.
    """
    path = _path(attachment.uuid)
    if settings.ACCEL_LOCATION:
        if not path.is_file():
            raise Http404
        answer = HttpResponse()
        answer["X-Accel-Redirect"] = settings.ACCEL_LOCATION + _place(attachment.uuid)
    else:
        wanted = request.headers if request is not None else {}
        # Without a validator of ours, what If-Range names cannot be what we have (RFC 9110, 13.1.5).
        answer = _bytes(path, "" if "If-Range" in wanted else wanted.get("Range", ""))
    kept = attachment.content_type
    answer["Content-Type"] = f"{kept}; charset=utf-8" if kept.startswith("text/") else kept
    shown = kept.startswith(INLINE) and not download
    answer["Content-Disposition"] = content_disposition_header(not shown, attachment.name)
    answer["Cache-Control"] = f"private, max-age={BROWSER_CACHE}, immutable"
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Content-Security-Policy"] = PLAYER_POLICY if kept.startswith(("audio/", "video/")) else POLICY
    # A frontend of another origin shows it, perhaps in a frame.
    answer["Cross-Origin-Resource-Policy"] = "cross-origin"
    answer.xframe_options_exempt = True
    return answer


def _bytes(path: Path, wanted: str) -> HttpResponse:
    """The bytes, or the one range of them that is wanted (RFC 9110, 14.2).

    Not a stream: a server of asynchronous applications would read one to its end first all the same.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise Http404 from None
    with file:
        size = file.seek(0, os.SEEK_END)
        span = _span(wanted, size)
        if span is None:
            file.seek(0)
            answer = HttpResponse(file.read())
        elif not span:
            answer = HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
        else:
            file.seek(span.start)
            answer = HttpResponse(file.read(len(span)), status=206)
            answer["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
    answer["Accept-Ranges"] = "bytes"
    return answer


def _span(wanted: str, size: int) -> range | None:
    """Which bytes a `Range` header asks for; an empty range: none of these; None: all of them.

    Several ranges at once, and what cannot be read, count as no wish at all.
    """
    parsed = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", wanted.strip(), re.ASCII | re.IGNORECASE)
    if not parsed or parsed[0].endswith("=-"):
        return None
    first, last = parsed.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last or size), size - 1) + 1)
