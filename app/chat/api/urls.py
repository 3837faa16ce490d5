"""Where the calls of the HTTP API lead, below `/chats/`."""

from django.urls import path, re_path

from chat.api import views

urlpatterns = [
    path("rooms/", views.Rooms.as_view()),
    path("rooms/create/", views.CreateRoom.as_view()),
    path("rooms/create_group/", views.CreateGroup.as_view()),
    path("rooms/<str:key>/", views.Room.as_view()),
    path("rooms/<str:key>/mark_as_read/", views.MarkAsRead.as_view()),
    path("rooms/<str:key>/leave/", views.Leave.as_view()),
    path("people/", views.People.as_view()),
    path("messages/", views.Messages.as_view()),
    path("messages/create/", views.CreateMessage.as_view()),
    path("messages/<int:pk>/", views.Message.as_view()),
    path("files/<uuid:uuid>/<str:name>", views.File.as_view()),
    re_path(r"", views.Nothing.as_view()),
]
