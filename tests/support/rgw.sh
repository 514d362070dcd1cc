#!/usr/bin/env bash
# A private S3 server in a directory of its own: Ceph's RADOS Gateway with one monitor and one object store daemon in
# memory, all on 127.0.0.1. For tests, demo and benchmarks; what is stored is gone when it stops.
#
#   rgw.sh start DIR --port PORT --access-key KEY --secret-key SECRET [--mon-port PORT] [--set 'NAME = VALUE']...
#                           takes about 12 s; DIR (made if missing) must not have been used before
#   rgw.sh stop DIR         end its processes
#   rgw.sh gateway-stop DIR, gateway-start DIR    only the gateway: the store goes down and comes back as it was
#   rgw.sh status DIR       exit code 0 while the gateway answers
#
# Buckets can also be addressed as host names (virtual-host style): BUCKET.s3.localhost:PORT.
#
# DIR/endpoint.json tells clients what they need: {"endpoint", "access_key", "secret_key", "region"}. The gateway's
# access log (method, target, status, user agent) is among the lines of DIR/log/client.admin.log.
set -euo pipefail

readonly SOCKET_LIMIT=107  # bytes in sockaddr_un's path

die() { printf 'rgw.sh: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

[ $# -ge 2 ] || usage
readonly ACTION=$1
DIR=$(realpath -m "$2")
readonly DIR
shift 2
command -v radosgw >/dev/null || die 'no radosgw: ./dev deps run'
export CEPH_CONF=$DIR/ceph.conf

# Runs one of Ceph's commands; what it says goes to DIR/setup.log and is shown when it fails.
quietly() { "$@" >>"$DIR/setup.log" 2>&1 || { tail -n 20 "$DIR/setup.log" >&2; die "failed: $1 ${2:-}"; }; }

write_config() {  # mon port, gateway port, further settings
  local mon_port=$1 port=$2
  shift 2
  cat >"$DIR/ceph.conf" <<CONF
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = [v2:127.0.0.1:$mon_port]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = $DIR/keyring
run dir = $DIR/run
admin socket = $DIR/run/\$name.\$pid.asok
pid file = $DIR/run/\$name.pid
log file = $DIR/log/\$name.log
mon data = $DIR/mon
mon allow pool size one = true
mon max pg per osd = 1000
osd data = $DIR/osd
osd objectstore = memstore
memstore device bytes = 4G
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd_pool_default_pg_autoscale_mode = off
osd class load list = *
osd class default list = *
rgw frontends = beast endpoint=127.0.0.1:$port
rgw dns name = s3.localhost
CONF
  local setting
  for setting in "$@"; do echo "$setting" >>"$DIR/ceph.conf"; done
}

start() {
  local port='' access_key='' secret_key='' mon_port='' sets=()
  while [ $# -gt 0 ]; do
    case $1 in
      --port) port=$2 ;;
      --access-key) access_key=$2 ;;
      --secret-key) secret_key=$2 ;;
      --mon-port) mon_port=$2 ;;
      --set) sets+=("$2") ;;
      *) usage ;;
    esac
    shift 2
  done
  if [ -z "$port" ] || [ -z "$access_key" ] || [ -z "$secret_key" ]; then usage; fi
  [ ! -e "$DIR/ceph.conf" ] || die "$DIR has been used before"
  [ $((${#DIR} + 35)) -le $SOCKET_LIMIT ] || die "$DIR is too long for a socket"
  mkdir -p "$DIR"/{mon,osd,run,log}
  write_config "${mon_port:-$((port + 1))}" "$port" "${sets[@]}"

  local fsid osd_uuid mon_address
  fsid=$(sed -n 's/^fsid = //p' "$DIR/ceph.conf")
  mon_address=$(sed -n 's/^mon host = //p' "$DIR/ceph.conf")
  osd_uuid=$(cat /proc/sys/kernel/random/uuid)
  quietly ceph-authtool --create-keyring "$DIR/keyring" --gen-key -n mon. --cap mon 'allow *'
  quietly ceph-authtool "$DIR/keyring" --gen-key -n client.admin \
    --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' --cap mds 'allow *'
  quietly ceph-authtool "$DIR/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
  quietly monmaptool --create --fsid "$fsid" --addv a "$mon_address" "$DIR/monmap"
  quietly ceph-mon --mkfs -i a --monmap "$DIR/monmap" --keyring "$DIR/keyring"
  quietly ceph-mon -i a -c "$CEPH_CONF"
  quietly ceph osd new "$osd_uuid"
  quietly ceph-osd -i 0 --mkfs --osd-uuid "$osd_uuid"  # the uuid of `osd new`, or it never comes up
  quietly ceph-osd -i 0 -c "$CEPH_CONF"
  gateway_start
  quietly radosgw-admin user create --uid=drover --display-name=Drover \
    --access-key="$access_key" --secret-key="$secret_key"
  (umask 077 && printf '{"endpoint": "http://127.0.0.1:%s", "access_key": "%s", "secret_key": "%s", "region": "us-east-1"}\n' \
    "$port" "$access_key" "$secret_key" >"$DIR/endpoint.json")
}

answers() {
  local port
  port=$(sed -n 's/^rgw frontends.*://p' "$DIR/ceph.conf")
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}

gateway_start() {
  quietly radosgw -n client.admin -c "$CEPH_CONF"
  local tries
  for ((tries = 0; tries < 600; tries++)); do
    ! answers || return 0
    sleep 0.1
  done
  die "the gateway does not answer; see $DIR/log"
}

# end NAME: at once. Nothing is lost by it: what they store is in memory.
end() {
  local file=$DIR/run/$1.pid pid tries
  [ -e "$file" ] || return 0
  pid=$(cat "$file")
  rm -f "$file"
  case $(cat "/proc/$pid/comm" 2>/dev/null) in radosgw | ceph-osd | ceph-mon) kill -9 "$pid" ;; esac
  for ((tries = 0; tries < 50; tries++)); do
    case $(ps -o stat= -p "$pid") in '' | Z*) return 0 ;; esac
    sleep 0.1
  done
}

case $ACTION in
  start) start "$@" ;;
  stop) for name in client.admin osd.0 mon.a; do end "$name"; done ;;
  gateway-stop) end client.admin ;;
  gateway-start) gateway_start ;;
  status) [ -e "$DIR/ceph.conf" ] && answers ;;
  *) usage ;;
esac
