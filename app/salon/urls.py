"""The pages and health checks; the WebSocket is routed in `chat.routing`."""

from django.contrib import admin
from django.contrib.auth import views as auth_views
from django.urls import include, path
from django.views.i18n import set_language
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from chat import client, logins, metrics, pictures_page, views

login = auth_views.LoginView.as_view(authentication_form=logins.LoginForm, redirect_authenticated_user=True)
admin.site.login_form = logins.AdminLoginForm

urlpatterns = [
    path("", views.index, name="index"),
    path("login/", logins.throttled(login), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("language/", set_language, name="language"),
    path("admin/login/", logins.throttled(admin.site.login)),
    path("admin/pictures/", admin.site.admin_view(pictures_page.answer), name="pictures"),
    path("admin/", admin.site.urls),
    path("chats/", include("chat.api.urls")),
    path("docs/", SpectacularSwaggerSplitView.as_view(url_name="openapi", template_name="chat/docs.html"), name="docs"),
    path("docs/openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("docs/asyncapi.json", views.websocket_document, name="asyncapi"),
    path("client/v1/<str:name>", client.client_file, name="client"),
    path("page/<str:digest>/<str:name>", client.page_file, name="page-file"),
    path("healthz", views.healthz),
    path("readyz", views.readyz),
    path("metrics", metrics.answer),
]
handler400 = "chat.api.errors.bad_request"
handler500 = "chat.api.errors.internal_error"
