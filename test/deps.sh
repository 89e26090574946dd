#!/bin/bash
# Installs the Debian packages of test/packages that this machine lacks, after naming them.
# Nothing that a package brings is started, now or at the next boot: tests run daemons themselves, in namespaces.
#   test/deps.sh           install what is missing (as root, or by sudo)
#   test/deps.sh --list    only name what is missing
# Both take files to read in place of packages, from this directory: test/deps.sh packages vm/packages
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
self=$PWD/$(basename "${BASH_SOURCE[0]}")
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
policy=/usr/sbin/policy-rc.d
only_list=
if [[ ${1:-} == --list ]]; then
	only_list=1
	shift
fi
lists=("${@:-packages}")

missing() {
	local package probe
	while read -r package probe _; do
		case $package in '' | '#'*) continue ;; esac
		if [[ $probe == /* ]]; then [[ -e $probe ]] && continue; fi
		command -v "$probe" >/dev/null || echo "$package"
	done < <(cat "${lists[@]}")
}

# block_starts makes policy-rc.d forbid every start until the script ends, however it ends.
# A file that forbids already is kept; one that does not is put aside. After a kill -9 the next run tidies up.
block_starts() {
	restore_policy
	trap restore_policy EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	if [[ -x $policy ]]; then
		local status=0
		"$policy" subflowd-test start 2 >/dev/null 2>&1 </dev/null || status=$?
		if [[ $status == 101 ]]; then return; fi
	fi
	if [[ -e $policy ]]; then mv "$policy" "$policy.before-subflowd"; fi
	printf '#!/bin/sh\n# subflowd test/deps.sh: removed when it ends\nexit 101\n' >"$policy"
	chmod 755 "$policy"
}

restore_policy() {
	if grep -qs '^# subflowd test/deps.sh' "$policy"; then rm -f "$policy"; fi
	if [[ -e $policy.before-subflowd ]]; then mv -f "$policy.before-subflowd" "$policy"; fi
}

is_installed() { [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]; }

# disable keeps the services of a package from starting at the next boot: policy-rc.d stops a start,
# but the package has enabled its units all the same.
disable() {
	local file name
	while read -r file; do
		name=${file##*/}
		case $file in
		*/systemd/system/*@.* | */systemd/user/*) continue ;;
		*/systemd/system/*.service | */systemd/system/*.socket | */systemd/system/*.timer | */systemd/system/*.path)
			[[ $(systemctl is-enabled "$name" 2>/dev/null) == enabled ]] || continue
			systemctl disable --quiet "$name" 2>/dev/null || continue
			;;
		/etc/init.d/*) update-rc.d "$name" disable >/dev/null 2>&1 || continue ;;
		*) continue ;;
		esac
		echo "disabled $name, which $1 had enabled" >&2
	done < <(dpkg -L "$1" | sort -u)
}

install() {
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
	local apt=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0) new=() package
	for package; do is_installed "$package" || new+=("$package"); done
	block_starts
	# The index of a new machine is empty; that of an old one names versions that are gone.
	apt-cache show --no-all-versions "$@" >/dev/null 2>&1 || "${apt[@]}" update
	"${apt[@]}" install -y --no-install-recommends "$@" </dev/null ||
		{ "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$@" </dev/null; }
	for package in "${new[@]}"; do disable "$package"; done
}

main() {
	local lacking
	lacking=$(missing | sort -u)
	if [[ -z $lacking ]]; then return; fi
	echo "The tests need these Debian packages, which are missing: ${lacking//$'\n'/ }" >&2
	if [[ $only_list ]]; then return 1; fi
	if ! command -v apt-get >/dev/null; then
		echo "There is no apt-get here: install what your system calls them, then try again." >&2
		return 1
	fi
	if [[ $EUID != 0 ]]; then
		if command -v sudo >/dev/null && sudo "$self" "${lists[@]}"; then return; fi
		printf "Could not become root by sudo. Run this, then try again:\n\n    su -c '%s'\n\n" "$self ${lists[*]}" >&2
		return 1
	fi
	exec 9>/run/lock/subflowd-test-deps
	flock 9
	# shellcheck disable=SC2046 # one word for each package
	install $(missing | sort -u)
	lacking=$(missing)
	if [[ -n $lacking ]]; then
		echo "installed, yet not found: ${lacking//$'\n'/ }" >&2
		return 1
	fi
}
main
