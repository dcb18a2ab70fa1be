#!/bin/sh
# Links a program written in Go to the given path, which ends in its name. Builds it once per user, because it is not on
# PyPI.
set -eu

link=$1
name=$(basename "$link")
case $name in
# The tests call the server by it, as users do.
grpcurl)
	package=github.com/fullstorydev/grpcurl/cmd/grpcurl
	version=v1.9.4
	oldest_go=1.25.0
	;;
# Checks .github/workflows.
actionlint)
	package=github.com/rhysd/actionlint/cmd/actionlint
	version=v1.7.12
	oldest_go=1.25.0
	;;
*)
	echo "tools/go_program.sh: unknown program $name" >&2
	exit 2
	;;
esac
cache=${XDG_CACHE_HOME:-$HOME/.cache}/queuelet/bin
binary=$cache/$name-$version

if [ ! -x "$binary" ]; then
	if ! command -v go >/dev/null; then
		echo "tools/go_program.sh: building $name needs Go $oldest_go or newer: https://go.dev/dl/" >&2
		exit 1
	fi
	go=$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//; s/[ -].*//')
	if [ "$(printf '%s\n' "$oldest_go" "$go" | sort -V | head -n 1)" != "$oldest_go" ]; then
		echo "tools/go_program.sh: building $name $version needs Go $oldest_go or newer; this is Go $go." >&2
		exit 1
	fi
	echo "tools/go_program.sh: building $name $version into $cache (once, a minute or two)" >&2
	mkdir -p "$cache"
	# Inside the cache, because it is moved there in one step: two builds at once do not disturb each other.
	building=$(mktemp -d "$cache/building.XXXXXX")
	trap 'rm -rf "$building"' EXIT
	GOTOOLCHAIN=local CGO_ENABLED=0 GOBIN=$building \
		go install -v -trimpath "$package@$version" 2>&1 |
		awk '{ n++ } n % 50 == 0 { print "  " n " steps done" } /:/ { print } END { print "  " n " steps done" }' >&2
	if [ ! -x "$building/$name" ]; then
		echo "tools/go_program.sh: the build failed; Go's own words are above." >&2
		exit 1
	fi
	mv "$building/$name" "$binary"
fi

mkdir -p "$(dirname "$link")"
ln -sf "$binary" "$link"
# make looks at the binary behind the link, which may be older than this script.
touch "$binary"
