#!/bin/sh
# The postgres image runs this when its volume is new. It creates one database and one user for each service. No user has
# access to the other database.
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
