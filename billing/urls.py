from django.urls import path

from billing import views

app_name = "billing"

urlpatterns = [
    path("marketplace/register/", views.register, name="register"),
    path("marketplace/welcome/", views.welcome, name="welcome"),
    path("marketplace/claim/", views.claim, name="claim"),
    path("marketplace/dismiss/", views.dismiss, name="dismiss"),
    path("marketplace/sns/", views.sns, name="sns"),
    path("o/<slug:slug>/subscription/", views.subscription, name="subscription"),
]
