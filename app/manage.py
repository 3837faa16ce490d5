#!/usr/bin/env python3
"""Django's command line for Salon."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "salon.settings")
    if sys.argv[1:2] == ["demo"]:
        # Django loads the applications before the command, and Daphne is one: it makes a reactor if there is none.
        from salon import eventloop

        eventloop.install()
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"Salon cannot start: {error}")
