#!/bin/sh
# generate.sh PROTO FOLDER - makes the stubs from the contract's folder, which is all that is needed of blockjobd:
# FOLDER/blockjob/v1, a package of that import path. Those of google.rpc come with google.golang.org/genproto.
# Debian: protobuf-compiler, libprotobuf-dev, protoc-gen-go, protoc-gen-go-grpc.
set -eu
proto=$1
out=$2
mkdir -p "$out"
cd "$proto"
# The contract does not say where a site keeps its Go packages; these options do.
where=
for file in blockjob/v1/*.proto; do
    where="$where --go_opt=M$file=blockjob/v1 --go-grpc_opt=M$file=blockjob/v1"
done
# shellcheck disable=SC2086 # a list of options
protoc -I . --go_out="$out" --go-grpc_out="$out" $where blockjob/v1/*.proto
