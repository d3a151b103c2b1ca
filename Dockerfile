# The service with PostgreSQL's programs beside it, as an unprivileged user. How to run it: docs/operating.md, "Run it in a
# container". Debian 12 has PostgreSQL 15; other majors need a layer with their postgres and initdb.
FROM node:20-bookworm-slim AS build
# For sqlite3, which is compiled where its prebuilt binary can't be downloaded.
RUN apt-get update \
  && apt-get install -y --no-install-recommends ca-certificates g++ make python3 \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY tsconfig.json ./
COPY scripts scripts
# The playground shows them.
COPY examples/operations examples/operations
COPY migrations migrations
COPY src src
RUN npm run --silent build && npm prune --omit=dev --no-audit --no-fund

FROM node:20-bookworm-slim
# util-linux has setpriv, by which database servers end with the service; tini takes in what they leave behind.
RUN mkdir -p /etc/postgresql-common \
  && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
  && apt-get update \
  && apt-get install -y --no-install-recommends postgresql-15 tini util-linux \
  && rm -rf /var/lib/apt/lists/* \
  # PostgreSQL refuses to run as root; as this user the service runs its servers as itself.
  && groupadd --gid 10001 pitr-gateway \
  && useradd --uid 10001 --gid 10001 --home-dir /var/lib/pitr-gateway --no-create-home --shell /usr/sbin/nologin pitr-gateway \
  && install -d -o pitr-gateway -g pitr-gateway -m 0711 /var/lib/pitr-gateway
WORKDIR /opt/pitr-gateway
COPY --from=build /build/package.json ./
COPY --from=build /build/node_modules node_modules
COPY --from=build /build/dist dist
COPY LICENSE ./
COPY scripts/make-token.mjs scripts/make-token.mjs
COPY packaging/docker/healthcheck.mjs packaging/docker/healthcheck.mjs
# Anything but loopback needs authentication: without PITR_TOKENS_FILE or PITR_OIDC_ISSUER it says so and ends.
ENV NODE_ENV=production HOST=0.0.0.0 PORT=4000 PITR_HOME=/var/lib/pitr-gateway PITR_DRAIN_SECONDS=5
USER pitr-gateway
VOLUME /var/lib/pitr-gateway
EXPOSE 4000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "packaging/docker/healthcheck.mjs"]
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["node", "--max-semi-space-size=2", "dist/src/main.js"]
