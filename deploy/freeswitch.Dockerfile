# The lab's FreeSWITCH: Alpine's package, real prompts, no root. The build fails if a module of freeswitch_conf is missing.
#
# Alpine's `freeswitch` holds every module that the lab loads, mod_pgsql too; its `freeswitch-pgsql` is something else (call records).

FROM alpine:3.24.1@sha256:28bd5fe8b56d1bd048e5babf5b10710ebe0bae67db86916198a6eec434943f8b
# The number of the service's user in its image: FreeSWITCH makes each mailbox's folder with mode 0750, and only its owner may
# remove recordings there. A new volume takes owner and mode from the folder that it is mounted on.
RUN addgroup -S -g 10001 freeswitch \
    && adduser -S -D -H -u 10001 -G freeswitch -h /run/freeswitch -s /sbin/nologin freeswitch \
    && apk add --no-cache 'freeswitch~1.10.12' freeswitch-sounds-en-us-callie-8000 \
    && install -d -o freeswitch -g freeswitch -m 0750 /run/freeswitch /var/lib/freeswitch/directory \
        /var/lib/freeswitch/storage /var/lib/freeswitch/storage/voicemail /var/lib/freeswitch/storage/voicemail/default
COPY deploy/freeswitch_modules.sh /usr/local/bin/freeswitch_modules
COPY freeswitch_conf /etc/freeswitch
# The modes of a checkout are its owner's.
RUN chmod -R a+rX /etc/freeswitch && chmod 0755 /usr/local/bin/freeswitch_modules \
    && freeswitch_modules files /etc/freeswitch /usr/lib/freeswitch/mod \
    && for prompt in voicemail/8000/vm-person voicemail/8000/vm-record_message digits/8000/1; do \
        test -s "/usr/share/freeswitch/sounds/en/us/callie/$prompt.wav" || { echo "freeswitch: missing: $prompt.wav" >&2; exit 1; }; \
    done
USER 10001
WORKDIR /run/freeswitch
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["freeswitch_modules", "loaded", "/etc/freeswitch"]
# All that it writes besides recordings goes to /run/freeswitch, so that the rest can be read-only.
ENTRYPOINT ["/usr/bin/freeswitch", "-nf", "-nc", "-nonat", "-np", "-conf", "/etc/freeswitch", \
    "-log", "/run/freeswitch/log", "-db", "/run/freeswitch/db", "-run", "/run/freeswitch/run", "-temp", "/run/freeswitch/temp", \
    "-certs", "/run/freeswitch/certs", "-cache", "/run/freeswitch/cache", \
    "-storage", "/var/lib/freeswitch/storage", "-recordings", "/var/lib/freeswitch/storage/voicemail/default"]
