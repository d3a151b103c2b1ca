#!/bin/sh
# Installs what the tests start or call and npm does not bring, on Debian or Ubuntu, as root.
set -eu

export DEBIAN_FRONTEND=noninteractive

apt-get update

# OpenStack's command line with its Trove plugin: the suite of the REST interface calls it.
apt-get install -y --no-install-recommends python3-openstackclient python3-troveclient
