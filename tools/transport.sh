#!/bin/sh
# Builds, installs and checks the native transport in transport/, if there is a Rust. Everything works without it, but
# the server is slower.
set -eu

oldest=1.88.0
cd "$(dirname "$0")/.."
# Shared by all checkouts of a user, because its dependencies are the same for all.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/queuelet/transport}"

reason_to_skip() {
	if [ "${TRANSPORT:-}" = no ]; then
		echo "TRANSPORT=no"
	elif ! command -v cargo >/dev/null; then
		echo "there is no cargo; install Rust $oldest or newer for it: https://rustup.rs"
	else
		found=$(cargo --version | awk '{ print $2 }')
		if [ "$(printf '%s\n' "$oldest" "$found" | sort -V | head -n 1)" != "$oldest" ]; then
			echo "it needs Rust $oldest or newer, and this is $found"
		fi
	fi
}

reason=$(reason_to_skip)
if [ -n "$reason" ]; then
	echo "transport: skipped, because $reason" >&2
	exit 0
fi

case $1 in
install)
	echo "transport: building it (a minute at the first time; TRANSPORT=no skips it)" >&2
	rm -rf build/transport
	tools/uv build --quiet --wheel --out-dir build/transport transport
	tools/uv pip install --quiet --python .venv --reinstall --no-deps build/transport/*.whl
	;;
test)
	cd transport
	cargo fmt --check
	cargo clippy --quiet --locked --all-targets --features python -- --deny warnings
	cargo test --quiet --locked
	../.venv/bin/python -m pytest tests
	;;
*)
	echo "tools/transport.sh: unknown step $1" >&2
	exit 2
	;;
esac
