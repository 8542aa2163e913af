"""How gunicorn serves the site: ``gunicorn -c python:marketplace_saas.serving marketplace_saas.wsgi``.

The address and the number of processes are gunicorn's own variables, PORT and WEB_CONCURRENCY; all else can
be changed with GUNICORN_CMD_ARGS.
"""

from django.conf import settings

# Settings that are unsafe end the start here, once, and not in every process again.
logconfig_dict = settings.LOGGING
preload_app = True

# A page waits for the database, an arrival for AWS: threads wait cheaply.
worker_class = "gthread"
threads = 8

# Longer than the slowest answer: an arrival while AWS does not answer, with its retries.
timeout = 60
# On SIGTERM requests in hand are answered. What stops the process must wait longer: compose.yaml's 40 s.
graceful_timeout = 30
# Longer than a load balancer keeps a connection idle (AWS's: 60 s), or it sends requests into a closed one.
keepalive = 75

# What leaks is given back now and then; not by all at once.
max_requests = 5000
max_requests_jitter = 500
# The heartbeat file must be on no disk, which can be slow.
worker_tmp_dir = "/dev/shm"  # on Linux; elsewhere GUNICORN_CMD_ARGS="--worker-tmp-dir=/tmp"

# gunicornc, which would steer it, wants a file in a home directory. The image has none, and nobody uses it.
control_socket_disable = True

# One line for each answer comes from marketplace_saas.logs.
accesslog = None
errorlog = "-"
