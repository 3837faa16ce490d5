"""`{% page_file "page.css" %}`: the address of a part of the page, which changes with its content."""

from django import template
from django.urls import reverse

from chat import client

register = template.Library()


@register.simple_tag
def page_file(name: str) -> str:
    """The address of one of the page's files."""
    return reverse("page-file", args=(client.page_digest(), name))
