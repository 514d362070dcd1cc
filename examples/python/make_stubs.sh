#!/bin/sh
# Generates the API's Python modules from proto/ into the folder given, with Debian's protoc
# (protobuf-compiler and protobuf-compiler-grpc).
set -eu
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/../../proto"
exec protoc -I. --python_out="$out" --grpc_out="$out" \
  --plugin=protoc-gen-grpc="$(command -v grpc_python_plugin)" \
  drover/v1/*.proto google/api/field_behavior.proto google/rpc/*.proto
