#!/bin/sh
# Write .env from .env.example, with a random secret for every variable that is empty there. Readable for you alone.
set -eu
cd "$(dirname "$0")/.."
if [ -e .env ]; then
  echo ".env is there already, and what runs was started with its secrets: move it away if you mean it" >&2
  exit 1
fi
umask 077
# A letter first: nats-server reads these as configuration, and "12e4" would be a number to it.
while IFS= read -r line || [ -n "$line" ]; do
  case $line in
    \#*) printf '%s\n' "$line" ;;
    *=) printf '%sx%s\n' "$line" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" ;;
    *) printf '%s\n' "$line" ;;
  esac
done <.env.example >.env.new
mv .env.new .env
echo "wrote .env; now: docker compose up --build --wait"
