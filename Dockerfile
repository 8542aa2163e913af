# The site, its worker and its beat are one image. docs/deployment.md says how it was checked.
FROM python:3.13-slim-bookworm AS build

WORKDIR /app
COPY requirements.txt ./
RUN python -m venv --without-pip /venv \
    && python -m pip --python /venv/bin/python install --no-cache-dir --requirement requirements.txt

COPY manage.py ./
COPY marketplace_saas marketplace_saas
COPY accounts accounts
COPY billing billing
COPY templates templates
# Names only: nothing is reached, and nothing of it is in the image.
COPY .ci/production.env /tmp/build.env
RUN ENV_FILE=/tmp/build.env /venv/bin/python manage.py collectstatic --noinput --verbosity=0 \
    && /venv/bin/python -m compileall -q accounts billing marketplace_saas manage.py


FROM python:3.13-slim-bookworm

RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent app \
    && install --directory --owner=app /data

# ENV_FILE: values come from the platform, never from a file that lies about.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ENV_FILE= \
    DATA_DIR=/data \
    PORT=8000 \
    WEB_CONCURRENCY=2

WORKDIR /app
COPY --from=build /venv /venv
COPY --from=build /app /app

USER 10001
EXPOSE 8000
# What /readyz says is for whoever sends requests: a restart mends no database.
# hadolint ignore=DL3025  # the shell fills in the port
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$PORT/healthz', timeout=4)"
CMD ["gunicorn", "-c", "python:marketplace_saas.serving", "marketplace_saas.wsgi"]
