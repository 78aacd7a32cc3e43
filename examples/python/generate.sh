#!/bin/sh
# generate.sh PROTO [FOLDER] - makes the stubs from PROTO, the folder of the contract. Nothing else of blockjobd is
# needed. Debian: protobuf-compiler, protobuf-compiler-grpc, libprotobuf-dev. With pip: grpcio-tools, and "python3 -m
# grpc_tools.protoc" in place of protoc and its plugin.
set -eu
proto=$1
out=${2:-$(dirname "$0")/generated}
mkdir -p "$out"
out=$(realpath "$out")
cd "$proto"
protoc -I . --python_out="$out" --grpc_python_out="$out" \
    --plugin=protoc-gen-grpc_python="$(command -v grpc_python_plugin)" \
    blockjob/v1/*.proto google/api/*.proto google/rpc/*.proto
