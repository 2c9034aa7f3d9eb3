#!/usr/bin/env bash
# Builds packages (deb, rpm, apk), tarballs, an OCI layout, a list of components
# and checksums into dist/. ARCHS names the architectures, as Go does; VERSION
# the version. Needs Go and what it fetches. The same sources give the same files,
# but for the date in the list of components.
set -euo pipefail
cd "$(dirname "$0")/../.."

NFPM=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
CYCLONEDX=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

export VERSION=${VERSION:-$(sed -n 's/^var version = "\(.*\)"/\1/p' cmd/chmpx/main.go)} RELEASE=${RELEASE:-1}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
archs=${ARCHS:-$(go env GOARCH)}
dist=$PWD/dist
rm -rf "$dist" && mkdir -p "$dist"

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
GOBIN=$tools go install "$NFPM"
GOBIN=$tools go install "$CYCLONEDX"

docs=$dist/stage/docs
CHMPX_DOCS=$docs go test -count=1 -run '^TestDocs$' ./cmd/chmpx ./cmd/chmpxctl ./cmd/chmpxbench ./cmd/chmpx-service-helper
gzip -9n "$docs"/man/*

for arch in $archs; do
	export ARCH=$arch STAGE=$dist/stage/$arch DOCS=$docs
	mkdir -p "$STAGE/bin"
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o "$STAGE/bin/" \
		./cmd/chmpx ./cmd/chmpxctl ./cmd/chmpxbench ./cmd/chmpx-service-helper
	for tool in chmpxconftest chmpxlinetool chmpxstatus; do ln -s chmpxctl "$STAGE/bin/$tool"; done
	for kind in deb rpm apk; do
		"$tools/nfpm" package -f ops/packaging/chmpx.yaml -p "$kind" -t "$dist/"
	done

	top=chmpx-$VERSION-linux-$arch
	mkdir "$STAGE/$top"
	cp -a "$STAGE/bin" docs examples README.md CHANGELOG.md LICENSE ops/systemd "$docs/man" "$docs/completion" ops/packaging/etc "$STAGE/$top/"
	tar -C "$STAGE" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -c "$top" | gzip -9n >"$dist/$top.tar.gz"
done
NAME=chmpx-dev DEPENDS=chmpx "$tools/nfpm" package -f ops/packaging/chmpx-dev.yaml -p deb -t "$dist/"
NAME=chmpx-dev DEPENDS=chmpx "$tools/nfpm" package -f ops/packaging/chmpx-dev.yaml -p apk -t "$dist/"
NAME=chmpx-devel DEPENDS=chmpx "$tools/nfpm" package -f ops/packaging/chmpx-dev.yaml -p rpm -t "$dist/"

go run ./ops/packaging/oci -version "$VERSION" -stage "$dist/stage" -out "$dist/chmpx-$VERSION-oci" $archs
"$tools/cyclonedx-gomod" mod -json -type application -noserial -output "$dist/chmpx-$VERSION.cdx.json" 2>/dev/null
rm -rf "$dist/stage"
(cd "$dist" && find . -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort | xargs sha256sum >SHA256SUMS)
ls -l "$dist"
