from django.urls import path

from accounts import views

app_name = "accounts"

urlpatterns = [
    path("language/", views.language, name="language"),
    path("home/", views.home, name="home"),
    path("o/", views.organizations, name="organizations"),
    path("o/<slug:slug>/", views.organization, name="organization"),
]
