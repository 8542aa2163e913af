from django.urls import path

from accounts.views import closing, invitations, members, organizations, people, proof

app_name = "accounts"

urlpatterns = [
    path("language/", people.language, name="language"),
    path("home/", people.home, name="home"),
    path("accounts/profile/", people.profile, name="profile"),
    path("accounts/data/", closing.data, name="data"),
    path("accounts/data/export/", closing.export_account, name="export_account"),
    path("accounts/reauthenticate/code/", proof.by_code, name="prove"),
    path("accounts/password/set/", proof.set_password, name="set_password"),  # before allauth's own
    path("invitations/<str:token>/", invitations.invitation, name="invitation"),
    path("o/", organizations.organizations, name="organizations"),
    path("o/new/", organizations.new, name="new"),
    path("o/<slug:slug>/", organizations.organization, name="organization"),
    path("o/<slug:slug>/settings/", organizations.settings, name="settings"),
    path("o/<slug:slug>/export/", closing.export_organization, name="export"),
    path("o/<slug:slug>/close/", closing.close_organization, name="close"),
    path("o/<slug:slug>/leave/", members.leave, name="leave"),
    path("o/<slug:slug>/members/", members.members, name="members"),
    path("o/<slug:slug>/members/<int:pk>/", members.member, name="member"),
    path("o/<slug:slug>/members/<int:pk>/remove/", members.remove, name="remove"),
    path("o/<slug:slug>/members/<int:pk>/hand-over/", members.hand_over, name="hand_over"),
    path("o/<slug:slug>/invite/", invitations.invite, name="invite"),
    path("o/<slug:slug>/invitations/<int:pk>/resend/", invitations.resend, name="resend"),
    path("o/<slug:slug>/invitations/<int:pk>/revoke/", invitations.revoke, name="revoke"),
]
