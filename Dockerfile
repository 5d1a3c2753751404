# The service's image: built with uv from the lock file, run by a user without rights.

FROM python:3.11.16-slim-bookworm@sha256:528257d48c1da0dcecc2e725d1ae34498d60c965f1241e39cd6a85a8859bdf84 AS build
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=/opt/voicemail
WORKDIR /src
COPY requirements/uv.txt ./
RUN pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r uv.txt
# The dependencies first: they change less often than the program.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --frozen --no-dev --no-install-project
COPY app ./app
COPY sql ./sql
RUN uv sync --frozen --no-dev --no-editable

FROM python:3.11.16-slim-bookworm@sha256:528257d48c1da0dcecc2e725d1ae34498d60c965f1241e39cd6a85a8859bdf84
# 10001 is nobody's number on a usual host; deploy/freeswitch.Dockerfile has the same. A volume takes the owner of the folder below it.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin voicemail \
    && install -d -o voicemail -g voicemail -m 0750 /var/lib/voicemail /srv/recordings /srv/directory
COPY --from=build /opt/voicemail /opt/voicemail
ENV PATH=/opt/voicemail/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    VOICEMAIL_HTTP_HOST=0.0.0.0 \
    VOICEMAIL_DATA_DIR=/var/lib/voicemail
USER 10001
WORKDIR /var/lib/voicemail
VOLUME /var/lib/voicemail
EXPOSE 8080
# /healthz says that the process lives; /readyz would have a container restarted because its database is.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('VOICEMAIL_HTTP_PORT', '8080') + '/healthz', timeout=2)"]
ENTRYPOINT ["voicemail"]
CMD ["serve"]
