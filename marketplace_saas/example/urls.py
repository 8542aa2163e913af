from django.urls import path

from marketplace_saas.example import views

app_name = "example"

urlpatterns = [
    path("", views.reports, name="reports"),
    path("render-log/", views.upload_log, name="upload_log"),
]
