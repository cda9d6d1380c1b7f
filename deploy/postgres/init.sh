#!/bin/sh
# Run by the postgres image when its volume is new: a database and a user each, who may do nothing in the other's.
set -eu
for service in auth publisher; do
  case $service in
    auth) password=$BEACONFIRE_AUTH_DATABASE_PASSWORD ;;
    publisher) password=$BEACONFIRE_PUBLISHER_DATABASE_PASSWORD ;;
  esac
  psql --set ON_ERROR_STOP=1 --quiet --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set "name=$service" --set "password=$password" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
