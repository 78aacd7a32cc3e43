#!/bin/sh
# build.sh PROTO JAR - makes the stubs from the contract's folder, which is all that is needed of blockjobd, and builds
# the example with Debian's packages: default-jdk-headless, protobuf-compiler, protobuf-compiler-grpc-java-plugin,
# libprotobuf-dev, libprotobuf-java, libgrpc-java, libguava-java, libgeronimo-annotation-1.3-spec-java, libnetty-java,
# libperfmark-java. With Maven or Gradle: io.grpc's protobuf, stub and netty-shaded, and their plugin for protoc.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
jar=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/source" "$work/classes"
(cd "$1" && protoc -I . --java_out="$work/source" --grpc-java_out="$work/source" \
    --plugin=protoc-gen-grpc-java="$(command -v grpc_java_plugin)" \
    blockjob/v1/*.proto google/api/*.proto google/rpc/*.proto)
path=
for name in protobuf guava geronimo-annotation-1.3-spec perfmark-api \
    grpc-api grpc-context grpc-core grpc-netty grpc-protobuf grpc-protobuf-lite grpc-stub \
    netty-buffer netty-codec netty-codec-http netty-codec-http2 netty-common netty-handler netty-handler-proxy \
    netty-resolver netty-transport; do
    path="$path:/usr/share/java/$name.jar"
done
find "$work/source" -name '*.java' >"$work/sources"
javac -nowarn -d "$work/classes" -cp "$path" "@$work/sources" "$here/MoveDisks.java"
# In a manifest a line goes on where the next one begins with a space.
echo "Class-Path: $path" | sed 's/:\//\n  \//g' >"$work/manifest"
jar --create --file "$jar" --manifest "$work/manifest" --main-class MoveDisks -C "$work/classes" .
