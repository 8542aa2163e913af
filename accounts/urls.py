from django.urls import path

from accounts import views

app_name = "accounts"

urlpatterns = [
    path("home/", views.home, name="home"),
    path("o/<slug:slug>/", views.organization, name="organization"),
]
