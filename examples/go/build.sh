#!/bin/sh
# build.sh PROTO PROGRAM - builds the example that PROGRAM is called after: copydisk or movedisks. With Debian's packages: golang-go, protoc-gen-go, protoc-gen-go-grpc,
# golang-google-grpc-dev, golang-google-protobuf-dev, golang-google-genproto-dev, golang-github-golang-protobuf-1-5-dev,
# protobuf-compiler, libprotobuf-dev. With modules instead: generate.sh into the module's folder, replace the import of
# blockjob/v1 by its path below the module's, and "go mod tidy".
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/generate.sh" "$1" "$work/src"
name=$(basename "$2")
mkdir "$work/src/$name"
cp "$here/$name.go" "$here/calls.go" "$work/src/$name"
GO111MODULE=off GOFLAGS= GOPATH="$work:/usr/share/gocode" go build -o "$2" "$name"
