from django.urls import path

from accounts.views import organizations, people

app_name = "accounts"

urlpatterns = [
    path("language/", people.language, name="language"),
    path("home/", people.home, name="home"),
    path("o/", organizations.organizations, name="organizations"),
    path("o/<slug:slug>/", organizations.organization, name="organization"),
]
