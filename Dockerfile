# Claude Runner in a container:
#
#   docker build -t claude-runner .
#   docker run -d --name claude-runner --restart unless-stopped -p 127.0.0.1:8080:8080 -v claude-runner:/data \
#     -e DASHBOARD_USERNAME=owner -e DASHBOARD_PASSWORD=… -e CLAUDE_CODE_OAUTH_TOKEN=… claude-runner
#
# The site listens to all of the container's network, so the server does not start without the two DASHBOARD_ variables.
# Behind a proxy set PUBLIC_URL, and TRUSTED_PROXIES to the address that the proxy is seen by.
#
# Docker forbids the namespaces that shell commands and tool servers are confined by: without them jobs have no Bash, and
# tool servers run unconfined, within the container. These allow them:
#   --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap ca-certificates chromium git socat tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home mcpuser \
    && install -d -o mcpuser -g mcpuser -m 0700 /data

WORKDIR /app
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir --only-binary :all: -r requirements.txt
COPY server.py LICENSE ./
COPY claude_runner claude_runner
COPY fixed-servers fixed-servers
COPY dynamic_servers dynamic_servers
RUN python -m compileall -q .

USER mcpuser
ENV HOST=0.0.0.0 MCP_TRANSPORT=sse PORT=8080 RUNNER_HOME=/data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --start-period=30s --interval=30s --timeout=5s \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
# It buries the processes that others leave; on SIGTERM the server ends in order.
ENTRYPOINT ["tini", "--"]
CMD ["python", "server.py"]
