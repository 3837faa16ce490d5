"""The Django project: settings, routes, the server."""

__version__ = "0.1.0"
