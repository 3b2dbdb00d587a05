#!/usr/bin/env bash
# Makes this machine the master or a worker of a Spark standalone cluster: installs the project with
# its scripts, shares or mounts folders by NFS, and starts Spark. Its user owns all files
# and needs sudo. It can run repeatedly, and does at each boot on CloudLab.
#
#   profile/bootstrap.sh master --address 10.10.1.1 [--share FOLDER]…
#   profile/bootstrap.sh worker --address 10.10.1.2 --master 10.10.1.1 [--share FOLDER]…
#
#   --address   this machine's address on the cluster's network (/24)
#   --master    the master's address
#   --share     a folder of the master that workers mount at the same path; may be repeated
#   --folder    Spark's state and logs (/local/cerebros/cluster)
#   --dry-run   print the commands only
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
role="" address="" master="" folder="/local/cerebros/cluster" dry=""
shares=()
timeout=3600 # seconds that a worker waits for its master to install packages

fail() {
    echo "bootstrap: $*" >&2
    exit 1
}

# Runs a command, or only prints it.
run() {
    echo "+ $*"
    [ -n "$dry" ] || "$@"
}

# Repeats a command every five seconds until it succeeds.
retry() {
    echo "+ until $*"
    [ -z "$dry" ] || return 0
    local end=$((SECONDS + timeout))
    until "$@" 2>/dev/null; do
        [ "$SECONDS" -lt "$end" ] || fail "timeout after $timeout s: $*"
        sleep 5
    done
}

read_arguments() {
    role="${1:-}"
    case "$role" in master | worker) shift ;; *) fail "the first argument is master or worker" ;; esac
    while [ $# -gt 0 ]; do
        case "$1" in
        --dry-run) dry=1 && shift && continue ;;
        --address | --master | --share | --folder) [ $# -ge 2 ] || fail "$1 needs a value" ;;
        *) fail "unknown argument $1" ;;
        esac
        case "$1" in
        --address) address="$2" ;;
        --master) master="$2" ;;
        --folder) folder="$2" ;;
        --share)
            [[ "$2" =~ ^/[A-Za-z0-9._/-]+$ ]] || fail "--share $2: a plain absolute path is needed"
            shares+=("$2")
            ;;
        esac
        shift 2
    done
    [[ "$address" =~ ^[0-9]+(\.[0-9]+){3}$ ]] || fail "--address is needed: this machine's IPv4"
    [ "$role" = master ] && master="${master:-$address}"
    [ -n "$master" ] || fail "--master is needed: the master's IPv4"
}

install_packages() {
    local nfs=nfs-common
    [ "$role" = worker ] || nfs=nfs-kernel-server
    run sudo apt-get update -q
    run sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qy git python3-venv "$nfs"
}

# Installs Python packages, Spark and Java into .venv of the project.
install_project() {
    run bash -c ". '$root/scripts/_setup.sh'"
}

# Prints the line of /etc/exports for a folder that only the cluster's network can access.
export_line() {
    echo "$1 ${address%.*}.0/24(rw,sync,no_subtree_check)"
}

share_folders() {
    local share lines=""
    for share in "${shares[@]}"; do
        run sudo install -d "$share"
        # A data set can be read-only.
        run sudo chown "$(id -un)" "$share" || echo "bootstrap: $share keeps its owner" >&2
        lines+="$(export_line "$share")"$'\n'
    done
    [ -n "$lines" ] || return 0
    echo "+ write /etc/exports.d/cerebros.exports:"
    printf '%s' "$lines"
    if [ -z "$dry" ]; then
        sudo install -d /etc/exports.d
        printf '%s' "$lines" | sudo tee /etc/exports.d/cerebros.exports >/dev/null
    fi
    run sudo exportfs -ra
}

mount_folder() {
    run sudo install -d "$1"
    if mountpoint -q "$1"; then
        return 0
    fi
    # Failed lookups are not cached, so that new files of other machines are visible.
    retry sudo mount -t nfs -o vers=4.2,hard,lookupcache=positive "$master:$1" "$1"
}

# Prints the memory of executors: they need little, the Python workers need the rest.
worker_memory() {
    awk '/^MemTotal:/ { print int($2 / 1024 / 4) "m" }' "${1:-/proc/meminfo}"
}

is_listening() {
    (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null
}

start_spark() {
    local python="${VENV:-$root/.venv}/bin/python"
    local cluster=("$python" "$root/scripts/cluster.py")
    if [ -z "$dry" ] && "${cluster[@]}" status --folder "$folder" 2>/dev/null; then
        return 0
    fi
    run "${cluster[@]}" stop --folder "$folder"
    cluster+=(start --host "$address" --folder "$folder")
    if [ "$role" = master ]; then
        run "${cluster[@]}" --workers 0
        return 0
    fi
    retry is_listening "$master" 8080
    run "${cluster[@]}" --master "spark://$master:7077" --workers 1 \
        --cores "$(nproc)" --memory "$(worker_memory)"
}

main() {
    read_arguments "$@"
    install_packages
    install_project
    if [ "$role" = master ]; then
        share_folders
    else
        local share
        for share in "${shares[@]}"; do
            mount_folder "$share"
        done
    fi
    start_spark
    echo "bootstrap: this machine is the $role of spark://$master:7077"
}

# If sourced, only define the functions.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    main "$@"
fi
