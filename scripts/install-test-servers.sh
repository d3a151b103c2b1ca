#!/bin/sh
# Installs the database servers that the tests start themselves, OpenStack's command line and Prometheus' promtool, on
# Debian or Ubuntu, as root. No server is left running and no cluster of the system's own is created.
set -eu

export DEBIAN_FRONTEND=noninteractive

# Debian's package creates and starts a cluster unless it is told not to, before it is installed.
mkdir -p /etc/postgresql-common
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
  echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
elif grep -q '^#\{0,1\}create_main_cluster' /etc/postgresql-common/createcluster.conf; then
  sed -i 's/^#\{0,1\}create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
else
  echo 'create_main_cluster = false' >> /etc/postgresql-common/createcluster.conf
fi

# Whatever else comes along is not started either; an existing policy is put back.
policy=/usr/sbin/policy-rc.d
kept=
if [ -e "$policy" ]; then
  kept=$(mktemp)
  cp -p "$policy" "$kept"
fi
restore_policy() {
  if [ -n "$kept" ]; then mv "$kept" "$policy"; else rm -f "$policy"; fi
}
trap restore_policy EXIT
printf '#!/bin/sh\nexit 101\n' > "$policy"
chmod 755 "$policy"

apt-get update
# The existing configuration file is kept: it is the one just written. setpriv is in util-linux.
apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold postgresql postgresql-client util-linux

for program in postgres initdb pg_basebackup pg_controldata pg_waldump; do
  ls /usr/lib/postgresql/*/bin/"$program"
done

# The majors that Debian has not, for the suites of several majors: 250 MB below /opt/pitr-test-servers.
node "$(dirname "$0")/install-test-postgresql.mjs"

# With the plugin for Trove: the suite of the REST interface calls it.
apt-get install -y --no-install-recommends python3-openstackclient python3-troveclient
openstack --version

# Its promtool checks what /metrics says.
apt-get install -y --no-install-recommends prometheus
promtool --version
