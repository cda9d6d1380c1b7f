#!/usr/bin/env bash
# Install PostgreSQL's programs for the tests, on a machine with apt. Elsewhere: say what is needed.
# The tests start servers of their own: no cluster is made here, and no system service started.
set -euo pipefail
if ! command -v apt-get >/dev/null; then
  echo "The tests need PostgreSQL 15 or newer: install it so that 'initdb' is on the PATH, or set POSTGRES_URL." >&2
  exit 1
fi
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"
echo "PostgreSQL is not on this machine: installing Debian's (tests)"
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-common >/dev/null
# Debian's package makes a cluster and starts it, unless told otherwise before it is installed.
$as_root install -d /etc/postgresql-common
echo "create_main_cluster = false" | $as_root tee -a /etc/postgresql-common/createcluster.conf >/dev/null
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
