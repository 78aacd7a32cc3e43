#!/bin/sh
# generate.sh PROTO FOLDER - makes the stubs from PROTO, the folder of the contract. Nothing else of blockjobd is
# needed. The output is FOLDER/blockjob/v1, a package with that import path. google.golang.org/genproto has the stubs of
# google.api and google.rpc. Debian: protobuf-compiler, libprotobuf-dev, protoc-gen-go, protoc-gen-go-grpc.
set -eu
proto=$1
out=$2
mkdir -p "$out"
out=$(realpath "$out")
cd "$proto"
protoc -I . --go_out="$out" --go-grpc_out="$out" blockjob/v1/*.proto
