#!/usr/bin/env bash
# Provide the images that our Dockerfiles and docker-compose.yml start from: deploy/ci/base-images.sh FOLDER
#
# An image that the engine does not have is pulled. If that fails and STAND_IN_IMAGES=1 (as in CI), a stand-in with
# the same name is built from Debian's packages. It is Debian's Python 3.11 or PostgreSQL 15, or the same release of
# Caddy. FOLDER is for files in between.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
root=$here/../..

INSTALL_S=300
PULL_S=180
BUILD_S=600

# The names stand in one place each, where they are used.
image_of() { sed -nE "s/^ *(FROM|image:) ($1:[^ ]+).*/\2/p" "$2" | head -n 1; }
python=$(image_of python "$root/deploy/Dockerfile")
postgres=$(image_of postgres "$root/docker-compose.yml")
caddy=$(image_of caddy "$root/deploy/proxy/Dockerfile")

is_there() { docker image inspect "$1" >/dev/null 2>&1; }

# Returns whether a stand-in is needed.
is_missing() {
  is_there "$1" && return 1
  timeout $PULL_S docker pull --quiet "$1" >/dev/null 2>"$folder/pull.log" && return 1
  cat "$folder/pull.log" >&2
  if [ "${STAND_IN_IMAGES:-}${CI:+1}" = "" ]; then
    echo "The image $1 cannot be pulled (see above). Check the network, or set STAND_IN_IMAGES=1 to build a stand-in with this name from Debian's packages." >&2
    exit 1
  fi
  echo "Building a stand-in for $1, which cannot be pulled"
}

stand_in_for_python() {
  command -v mmdebstrap >/dev/null || {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || { echo "Building a stand-in needs mmdebstrap. Install it from Debian." >&2; exit 1; }
    timeout $INSTALL_S apt-get update -qq
    DEBIAN_FRONTEND=noninteractive timeout $INSTALL_S apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null </dev/null
  }
  # The authorities that this machine trusts may include one of its network.
  authorities=/etc/ssl/certs/ca-certificates.crt
  timeout $BUILD_S mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
    --customize-hook='ln -s python3 "$1/usr/bin/python"' \
    --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
    --customize-hook="cp '${SSL_CERT_FILE:-$authorities}' \"\$1$authorities\"" \
    bookworm - \
    | docker import -c "ENV SSL_CERT_FILE=$authorities PIP_CERT=$authorities REQUESTS_CA_BUNDLE=$authorities" - "$python" >/dev/null
}

build() { timeout $BUILD_S docker build --quiet --build-arg "BASE=$python" --tag "$1" "$2" >/dev/null; }

stand_in_for_caddy() {
  mkdir -p "$folder/caddy"
  cp "$here/caddy/Dockerfile" "$folder/caddy/"
  cp "$root/.venv/bin/caddy" "$folder/caddy/" || { echo "The stand-in for $caddy needs .venv/bin/caddy. Run make setup first." >&2; exit 1; }
  build "$caddy" "$folder/caddy"
}

# The other stand-ins start from this one.
if is_missing "$python"; then stand_in_for_python; fi
if is_missing "$postgres"; then build "$postgres" "$here/postgres"; fi
if is_missing "$caddy"; then stand_in_for_caddy; fi
