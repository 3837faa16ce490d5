"""The page of the admin with the ten pictures of `chat.pictures`."""

import time

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.safestring import mark_safe

from chat.pictures import PICTURES, AwayError, Prometheus, drawn

HOURS = (1, 6, 24, 24 * 7)


def answer(request: HttpRequest) -> HttpResponse:
    """The pictures, or why there are none."""
    if not request.user.is_superuser:
        raise PermissionDenied
    chosen = request.GET.get("hours", "")
    hours = next((each for each in HOURS if str(each) == chosen), HOURS[1])
    pictures, trouble = _pictures(hours)
    page = admin.site.each_context(request) | {
        "title": "How Salon is",
        "hours": hours,
        "choices": HOURS,
        "pictures": pictures,
        "trouble": trouble,
        "is_watched": bool(settings.PROMETHEUS_URL),
    }
    return render(request, "chat/pictures.html", page)


def _pictures(hours: int) -> tuple[list[tuple[str, str]], str]:
    """Each picture with its title; and why they are not all there, if so."""
    found: list[tuple[str, str]] = []
    if settings.PROMETHEUS_URL:
        prometheus, end = Prometheus(settings.PROMETHEUS_URL), time.time()
        try:
            for picture in PICTURES:
                shown = drawn(picture, prometheus, end - hours * 3600, end)
                # Drawn here, and what is somebody else's in it is escaped there.
                found.append((picture.title, mark_safe(shown)))  # noqa: S308 # nosec B308 B703
        except AwayError as error:
            return found, str(error)
    return found, ""
