#!/bin/bash
# Builds packages: packaging/build.sh DIST, with VERSION, ARCHS and FORMATS in the environment. `make packages` runs it.
# Needs the manual pages and completions in PAGES. The same sources give the same bytes: every time is SOURCE_DATE_EPOCH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
umask 022
dist=$1
: "${VERSION:?}" "${ARCHS:?}" "${FORMATS:?}" "${TAGS:?}" "${LDFLAGS:?}" "${SOURCE_DATE_EPOCH:?}" "${PAGES:?}"
export VERSION SOURCE_DATE_EPOCH
GO=${GO:-go}

# binaries ARCH: both programs for one architecture. MIPS routers have no floating point unit, and their kernels often
# emulate none.
binaries() {
	local arch=$1 goarch=$1
	if [[ $arch == armv7 ]]; then goarch=arm; fi
	CGO_ENABLED=0 GOOS=linux GOARCH=$goarch GOARM=7 GOMIPS=softfloat "$GO" build -trimpath -buildvcs=false -tags "$TAGS" -ldflags "$LDFLAGS" \
		-o "$dist/bin/$arch/" ./cmd/subflowd ./cmd/subflowctl
}

# fits ARCH FORMAT: whether the format's distributions exist for the architecture.
fits() {
	case $2:$1 in
	archlinux:riscv64 | archlinux:mipsle | apk:mipsle) return 1 ;;
	esac
}

# stage ARCH FORMAT: the tree that a package installs, in $STAGE.
stage() {
	local arch=$1 format=$2 sbin=/usr/sbin zsh=/usr/share/zsh/site-functions
	case $format in
	deb) zsh=/usr/share/zsh/vendor-completions ;;
	archlinux) sbin=/usr/bin ;; # /usr/sbin is a link to it
	esac
	rm -rf "$STAGE"
	make -s install-files DESTDIR="$STAGE" BIN="$dist/bin/$arch" PAGES="$PAGES" PREFIX=/usr SBINDIR=$sbin ZSHDIR=$zsh UNITDIR=/usr/lib/systemd/system
	local doc=$STAGE/usr/share/doc/subflowd
	case $format in
	deb)
		install -D -m 644 packaging/deb/copyright "$doc/copyright"
		install -D -m 644 packaging/deb/lintian-overrides "$STAGE/usr/share/lintian/overrides/subflowd"
		printf 'subflowd (%s-1) unstable; urgency=medium\n\n  * See the history of the sources.\n\n -- %s  %s\n' "$VERSION" \
			'subflowd maintainers <subflowd@users.noreply.github.com>' "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" |
			gzip -9n >"$doc/changelog.Debian.gz"
		;;
	*) install -D -m 644 LICENSE "$STAGE/usr/share/licenses/subflowd/LICENSE" ;;
	esac
	if [[ $format == apk ]]; then rm -r "$STAGE/usr/lib/systemd" "$STAGE/usr/lib/sysusers.d"; fi
	find "$STAGE" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

mkdir -p "$dist"
dist=$(cd "$dist" && pwd)
for arch in $ARCHS; do
	binaries "$arch"
	for format in $FORMATS; do
		fits "$arch" "$format" || continue
		export ARCH=${arch/armv7/arm7} STAGE=$dist/stage
		stage "$arch" "$format"
		"$GO" tool -modfile=internal/tools/nfpm/go.mod nfpm package --config packaging/nfpm.yaml --packager "$format" --target "$dist" |
			grep '^created' | sed "s|$dist/||"
	done
done
rm -rf "$dist/stage"
