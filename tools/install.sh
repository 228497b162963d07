# shellcheck shell=bash disable=SC2034
# Sourced by tools/demo and tests/run, and by whatever else must work on a fresh machine: installs Debian packages (Debian
# 12 and 13, Ubuntu 24.04), only those that are missing, so that a second run needs neither the network nor root.
# Package names here are the ones that all three share. The caller has set -e and stands in the repository's root.

build_packages=(build-essential cmake ninja-build pkg-config protobuf-c-compiler libprotobuf-c-dev libdnnl-dev libjpeg-dev libxxhash-dev zlib1g-dev)
data_packages=(dataset-fashion-mnist)

say() { printf '%s: %s\n' "${0#./}" "$*" >&2; }
die() { say "$@"; exit 1; }

# missing_packages NAME...   prints the ones that are not installed, on one line
missing_packages() {
    local name missing=()
    for name in "$@"; do
        dpkg-query -W -f '${Status}\n' "$name" 2>/dev/null | grep -q ' installed$' || missing+=("$name")
    done
    echo "${missing[*]}"
}

# install_packages NAME...   Status 1 after one line on stderr that says what is missing and why it stays so.
install_packages() {
    local missing root=() log
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        say "not a Debian or Ubuntu machine, so nothing was installed; needed here, by their Debian names: $*"
        return 0
    fi
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { say "missing, and installing needs root: apt-get install $missing"; return 1; }
        root=(sudo)
    fi
    say "installing $missing"
    log=$(mktemp)
    # shellcheck disable=SC2086  # a list of names
    if ! { "${root[@]}" apt-get -qq update && "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get -qq -y --no-install-recommends install $missing; } >"$log" 2>&1; then
        say "missing, and apt-get can't install it: $(missing_packages "$@") ($(grep '^E:' "$log" | head -n 1))"
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# configure_and_build FOLDER CMAKE-OPTION...
configure_and_build() {
    local folder=$1 log
    shift
    mkdir -p "$folder"
    log=$folder/configure.log
    cmake -S . -B "$folder" -G Ninja "$@" >"$log" 2>&1 || { cat "$log" >&2; die "CMake can't configure $folder (above, and in $log)"; }
    ninja -C "$folder"
}
