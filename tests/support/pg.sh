#!/usr/bin/env bash
# A private PostgreSQL 15 cluster in a directory of its own, for tests, demo and benchmarks. It never touches the
# system's clusters. fsync stays on.
#
#   pg.sh start DIR [--port PORT] [--set NAME=VALUE]...   make the cluster in DIR if it is new, and start it
#   pg.sh stop DIR          fast shutdown
#   pg.sh kill DIR          immediate shutdown: no checkpoint, so that the next start recovers from the WAL
#   pg.sh restart DIR       fast shutdown and start, with the settings of the first start
#   pg.sh status DIR        exit code 0 while it runs
#   pg.sh uri DIR           the connection URI for Drover (role drover, database drover)
#   pg.sh psql DIR ARGS...  psql as superuser in the database drover
#
# DIR (made if missing) belongs to the cluster alone: data/, log, and the socket. The server listens on that socket
# only, and with --port on 127.0.0.1 as well. Started by root it runs as user postgres, who must be able to reach DIR.
# Roles: postgres and the calling user are superusers; drover owns the database drover.
set -euo pipefail

readonly BIN=/usr/lib/postgresql/15/bin
readonly SOCKET_LIMIT=107  # bytes in sockaddr_un's path

die() { printf 'pg.sh: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

[ $# -ge 2 ] || usage
readonly ACTION=$1
DIR=$(realpath -m "$2")
readonly DIR
shift 2
[ -x $BIN/postgres ] || die "no PostgreSQL 15 in $BIN: ./dev deps run"

# Runs a command as the cluster's owner.
as_owner() {
  if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else (cd / && "$@"); fi
}

control() { as_owner "$BIN/pg_ctl" -D "$DIR/data" -s "$@"; }

running() { [ -d "$DIR/data" ] && control status >/dev/null 2>&1; }

port() { as_owner sed -n 's/^port = //p' "$DIR/data/drover.conf"; }

admin_psql() { as_owner env PGPORT="$(port)" "$BIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$DIR" -U postgres "$@"; }

# Makes the cluster; what is set here goes to data/drover.conf.
create() {
  [ $((${#DIR} + 20)) -le $SOCKET_LIMIT ] || die "$DIR is too long for a socket"
  mkdir -p "$DIR"
  [ "$(id -u)" != 0 ] || chown postgres: "$DIR"
  as_owner test -x "$DIR" || die "user postgres cannot reach $DIR: choose another directory"
  as_owner "$BIN/initdb" -D "$DIR/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$DIR/initdb.log" 2>&1 ||
    { cat "$DIR/initdb.log" >&2; die 'initdb failed'; }
  as_owner tee -a "$DIR/data/postgresql.conf" >/dev/null <<<"include_if_exists = 'drover.conf'"
}

# settings PORT NAME=VALUE...
settings() {
  local port=$1 setting
  shift
  echo "unix_socket_directories = '$DIR'"
  echo "listen_addresses = '${port:+127.0.0.1}'"
  echo "port = ${port:-5432}"
  for setting in "$@"; do echo "${setting%%=*} = '${setting#*=}'"; done
}

start() {
  local port='' sets=()
  while [ $# -gt 0 ]; do
    case $1 in
      --port) port=$2 ;;
      --set) sets+=("$2") ;;
      *) usage ;;
    esac
    shift 2
  done
  ! running || return 0
  local new=no
  [ -e "$DIR/data/PG_VERSION" ] || { create; new=yes; }
  if [ $new = yes ] || [ -n "$port" ] || [ ${#sets[@]} -gt 0 ]; then
    settings "$port" "${sets[@]}" | as_owner tee "$DIR/data/drover.conf" >/dev/null
  fi
  control -w -t 60 -l "$DIR/log" start || { tail -n 20 "$DIR/log" >&2; die "no start in $DIR"; }
  [ $new = yes ] || return 0
  local caller
  caller=$(id -un)
  [ "$caller" = postgres ] || admin_psql -c "CREATE ROLE \"$caller\" SUPERUSER LOGIN" postgres
  admin_psql -c 'CREATE ROLE drover LOGIN' -c 'CREATE DATABASE drover OWNER drover' postgres
}

case $ACTION in
  start) start "$@" ;;
  stop) ! running || control -w -m fast stop ;;
  kill) ! running || control -w -m immediate stop ;;
  restart) control -w -m fast -l "$DIR/log" restart ;;
  status) running ;;
  uri) echo "postgresql:///drover?host=$DIR&user=drover&port=$(port)" ;;
  psql) admin_psql -d drover "$@" ;;
  *) usage ;;
esac
