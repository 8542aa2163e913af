from django.urls import path

from billing.views import joining, registering, sns, subscription, usage, waiting, welcome

app_name = "billing"

urlpatterns = [
    path("marketplace/register/", registering.register, name="register"),
    path("marketplace/welcome/", welcome.welcome, name="welcome"),
    path("marketplace/claim/", welcome.claim, name="claim"),
    path("marketplace/dismiss/", welcome.dismiss, name="dismiss"),
    path("marketplace/ask/", joining.ask, name="ask"),
    path("marketplace/sns/", sns.sns, name="sns"),
    path("o/<slug:slug>/subscription/", subscription.subscription, name="subscription"),
    path("o/<slug:slug>/usage/", usage.usage, name="usage"),
    path("o/<slug:slug>/getting-ready/", waiting.getting_ready, name="waiting"),
    path("o/<slug:slug>/requests/", joining.requests, name="requests"),
    path("o/<slug:slug>/requests/<int:pk>/", joining.answer, name="answer"),
]
