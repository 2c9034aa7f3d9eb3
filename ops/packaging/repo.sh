#!/usr/bin/env bash
# Makes an apt repository, dist/repo/apt, and a dnf repository, dist/repo/rpm,
# of the packages in dist/. Needs dpkg-scanpackages (Debian: dpkg-dev) and
# createrepo_c (createrepo-c). They are not signed: whoever gives them to others
# signs Release and repomd.xml.
set -euo pipefail
cd "$(dirname "$0")/../../dist"

rm -rf repo && mkdir -p repo/apt repo/rpm
cp ./*.deb repo/apt/
cp ./*.rpm repo/rpm/
(
	cd repo/apt
	dpkg-scanpackages --multiversion . >Packages 2>/dev/null
	gzip -9nk Packages
	{
		printf 'Origin: chmpx\nSuite: stable\nDate: %s\nSHA256:\n' "$(date -Ru)"
		for file in Packages Packages.gz; do
			printf ' %s %s %s\n' "$(sha256sum <"$file" | cut -d' ' -f1)" "$(stat -c %s "$file")" "$file"
		done
	} >Release
)
createrepo_c --quiet repo/rpm
echo "apt: deb [trusted=yes] file:$PWD/repo/apt ./"
echo "dnf: baseurl=file://$PWD/repo/rpm"
