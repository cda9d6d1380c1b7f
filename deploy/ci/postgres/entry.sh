#!/bin/bash
# Create the cluster in an empty volume and run the scripts of /docker-entrypoint-initdb.d, as the original image does.
# Then run PostgreSQL.
set -euo pipefail
export POSTGRES_USER=postgres POSTGRES_DB=postgres
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # shellcheck disable=SC2086  (several options in one variable, as in the original)
  initdb --username postgres --pwfile <(echo "$POSTGRES_PASSWORD") ${POSTGRES_INITDB_ARGS:-} -D "$PGDATA"
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  # The scripts run on a server that is reachable only through its UNIX socket.
  pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -k /var/run/postgresql" -w start
  export PGPASSWORD="$POSTGRES_PASSWORD"
  for script in /docker-entrypoint-initdb.d/*.sh; do
    # shellcheck disable=SC1090
    if [ -x "$script" ]; then "$script"; elif [ -e "$script" ]; then . "$script"; fi
  done
  unset PGPASSWORD
  pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -k /var/run/postgresql
