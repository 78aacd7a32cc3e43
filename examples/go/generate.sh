#!/bin/sh
# generate.sh PROTO FOLDER - makes the stubs from the contract's folder, which is all that is needed of blockjobd:
# FOLDER/blockjob/v1, a package of that import path. Those of google.api and google.rpc come with google.golang.org/genproto.
# Debian: protobuf-compiler, libprotobuf-dev, protoc-gen-go, protoc-gen-go-grpc.
set -eu
proto=$1
out=$2
mkdir -p "$out"
cd "$proto"
protoc -I . --go_out="$out" --go-grpc_out="$out" blockjob/v1/*.proto
