"""The settings of the plain project: what it needs, and nothing to slow it down."""

import os

import dj_database_url

SECRET_KEY = TOKEN_KEY = os.environ["TOKEN_KEY"]
DEBUG = False
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["daphne", "django.contrib.auth", "django.contrib.contenttypes", "channels", "room"]
ROOT_URLCONF = "site_of_bench.urls"
ASGI_APPLICATION = "site_of_bench.asgi.application"
DATABASES = {"default": dj_database_url.config(conn_max_age=600)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        # This version of redis-py has a time-out of its own, which ends the layer's wait for a message, and with it the
        # connection of whoever heard nothing for five seconds.
        "CONFIG": {"hosts": [{"address": os.environ.get("REDIS_URL", "unix:///nowhere"), "socket_timeout": None}]},
    }
}
