#!/usr/bin/env bash
# Install PostgreSQL's programs for the tests on a machine with apt. On other machines, print what to install.
# The tests start their own servers, so this script creates no cluster and starts no system service.
set -euo pipefail
if ! command -v apt-get >/dev/null; then
  echo "The tests need PostgreSQL 15 or newer. Install it so that 'initdb' is on the PATH, or set POSTGRES_URL." >&2
  exit 1
fi
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"
echo "Installing PostgreSQL from Debian for the tests"
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-common >/dev/null
# Debian's package creates a cluster and starts it, unless this file says otherwise before the installation.
$as_root install -d /etc/postgresql-common
echo "create_main_cluster = false" | $as_root tee -a /etc/postgresql-common/createcluster.conf >/dev/null
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
