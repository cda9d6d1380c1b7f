#!/bin/sh
# Write .env from .env.example, with a random secret for every empty variable. Only the current user can read the file.
set -eu
cd "$(dirname "$0")/.."
if [ -e .env ]; then
  echo ".env exists already, and running services use its secrets. To create new secrets, move the file away first" >&2
  exit 1
fi
umask 077
# A secret starts with a letter, because nats-server reads it as configuration, where "12e4" would be a number.
while IFS= read -r line || [ -n "$line" ]; do
  case $line in
    \#*) printf '%s\n' "$line" ;;
    *=) printf '%sx%s\n' "$line" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" ;;
    *) printf '%s\n' "$line" ;;
  esac
done <.env.example >.env.new
mv .env.new .env
echo "Wrote .env. Next: docker compose up --build --wait"
