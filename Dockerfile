# The images of compose.yaml; docs/containers.md says what each is for. All of them are Debian, as on a host: the same
# versions of the services, with the same configuration.
ARG BASE=debian:trixie-slim

# hadolint global ignore=DL3006,DL3008
# The base has its tag in BASE. Debian's packages stand here by name: a version would keep out its security updates.

FROM ${BASE} AS base
# Through a unix socket the kernel says by its number who comes: everybody has the same one in all images.
RUN groupadd --system --gid 901 salon \
    && groupadd --system --gid 904 redis \
    && groupadd --system --gid 905 postgres \
    && useradd --system --uid 904 --gid redis --home-dir /var/lib/redis --shell /usr/sbin/nologin redis \
    && useradd --system --uid 905 --gid postgres --home-dir /var/lib/postgresql --shell /bin/sh postgres \
    && useradd --system --uid 901 --gid salon --groups redis,www-data --home-dir /var/lib/salon --shell /usr/sbin/nologin salon \
    && useradd --system --uid 902 --gid salon --home-dir /var/lib/salon --shell /usr/sbin/nologin salon-migrate \
    && useradd --system --uid 903 --gid salon --home-dir /var/lib/salon --shell /usr/sbin/nologin salon-backup
# A new volume has the owner and the mode of what it is mounted over, whoever is first.
RUN install --directory --owner salon --group www-data --mode 2750 /run/salon \
    && install --directory --owner salon --group salon --mode 0751 /var/lib/salon \
    && install --directory --owner salon --group www-data --mode 2750 /var/lib/salon/files \
    && install --directory --owner redis --group redis --mode 0750 /run/redis \
    && install --directory --owner postgres --group postgres --mode 2775 /run/postgresql \
    && install --directory --owner postgres --group postgres --mode 0700 /var/lib/postgresql
# A package may want to start what it brings.
RUN printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d
ENV LANG=C.UTF-8


FROM base AS files
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ansible-core \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /bundle
COPY roles roles
COPY templates templates
COPY containers/render.yml containers/values.yml containers/
ARG SALON_DOMAIN=localhost
ARG SALON_ALT_NAMES=127.0.0.1
ARG SALON_HTTPS_PORT=443
ARG SALON_HTTP_PORT=80
ARG SALON_PROCESSES=1
RUN ansible-playbook containers/render.yml --inventory localhost, -e @containers/values.yml -e images=/images


FROM base AS python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*


FROM python AS libraries
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/salon/venv
# Where no index can be reached from here, wheels that were fetched outside do: the hashes say that they are the same.
ARG PIP_NO_INDEX
ARG PIP_INDEX_URL
COPY app/requirements.txt build/containers/wheel[s] /wheels/
RUN /opt/salon/venv/bin/pip install --quiet --disable-pip-version-check --no-cache-dir \
        --require-hashes --only-binary=:all: --find-links /wheels --requirement /wheels/requirements.txt \
    && /opt/salon/venv/bin/pip uninstall --quiet --yes pip


FROM libraries AS code
COPY app /opt/salon/app
WORKDIR /opt/salon/app
RUN SALON_DATA_DIR=/tmp/salon SALON_STATIC_ROOT=/opt/salon/static /opt/salon/venv/bin/python manage.py collectstatic --noinput --verbosity 0 \
    && /opt/salon/venv/bin/python -m compileall -q /opt/salon/app


FROM python AS app
COPY --from=files /images/app /
COPY --from=code /opt/salon/venv /opt/salon/venv
COPY --from=code /opt/salon/app /opt/salon/app
COPY containers/secrets containers/certificate containers/migrate containers/salon /usr/local/bin/
RUN install --directory --owner salon --group salon --mode 0700 /etc/salon/secrets \
    && install --directory --owner www-data --group www-data --mode 0700 /etc/salon/tls /srv/certificate /var/lib/salon-certificate
ENV PATH=/opt/salon/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    SALON_DATA_DIR=/var/lib/salon \
    SALON_STATIC_ROOT=/opt/salon/static \
    SALON_ACCEL_LOCATION=/_files/ \
    SALON_PROCESSES=1 \
    WATCHDOG_USEC=30000000
USER 901
WORKDIR /opt/salon/app
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "salon.probe", "--only-ready", "--socket", "/tmp/salon.sock", "--timeout", "4"]
CMD ["sh", "-c", "exec python -m salon.listen /run/salon --places \"$SALON_PROCESSES\" --known-as /tmp/salon.sock"]


FROM base AS nginx
RUN apt-get update \
    && apt-get install --yes --no-install-recommends nginx \
    && rm -rf /var/lib/apt/lists/* /etc/nginx/sites-enabled/default \
    && ln -sf /dev/stdout /var/log/nginx/access.log \
    && ln -sf /dev/stderr /var/log/nginx/error.log \
    && install --directory --owner www-data --group www-data --mode 0700 /var/lib/nginx \
    && install --directory --owner www-data --group www-data --mode 0750 /etc/salon/tls
COPY --from=files /images/nginx /
COPY --from=code /opt/salon/static /opt/salon/static
COPY containers/answers /usr/local/bin/
ARG SALON_DOMAIN=localhost
ARG SALON_HTTP_PORT=80
ENV SALON_DOMAIN=${SALON_DOMAIN} SALON_HTTP_PORT=${SALON_HTTP_PORT}
USER 33
# It lets those who are being answered have their answer.
STOPSIGNAL SIGQUIT
# Each leaves a line in the log.
HEALTHCHECK --interval=15s --timeout=6s --start-period=10s CMD ["answers"]
CMD ["nginx", "-g", "daemon off;"]


FROM base AS redis
RUN apt-get update \
    && apt-get install --yes --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/*
COPY --from=files /images/redis /
USER 904
HEALTHCHECK --interval=3s --timeout=3s --start-period=10s \
    CMD ["sh", "-c", "REDISCLI_AUTH=none redis-cli -s /run/redis/redis-server.sock --user salon ping | grep -qx PONG"]
CMD ["redis-server", "/etc/redis/redis.conf", "--supervised", "no"]


FROM base AS postgresql
# The cluster is made in the volume, not here.
RUN install --directory /etc/postgresql-common \
    && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
    && apt-get update \
    && apt-get install --yes --no-install-recommends postgresql \
    && rm -rf /var/lib/apt/lists/*
COPY --from=files /images/postgresql /
COPY containers/postgresql containers/database /usr/local/bin/
USER 905
# Whoever is connected is sent away, what is committed is kept.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=3s --timeout=3s --start-period=60s CMD ["pg_isready", "--quiet"]
CMD ["postgresql"]
