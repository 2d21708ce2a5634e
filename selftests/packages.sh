#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The Debian packages: they build, lintian has no complaint, and in a clean Debian 12 they install, do what the README says, have
# their module built by DKMS and leave nothing behind when purged; the module for 6.12 and 7.2 as well, in a trixie.
# As root, in copies of the roots that "scripts/setup packages" makes; nothing is installed on this machine.
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/.." && pwd)
. "$here/tap.sh"
cache=${LIBSPLICE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/libsplice}
version=$(cat "$top/VERSION")
ours=(libsplice1 libsplice-dev libsplice-tools sksplice-dkms libsplice1-dbgsym libsplice-tools-dbgsym)
# Not what dkms recommends: sudo, for one, cannot be removed without a word. A root that is thrown away need not be safe on disk.
get='apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Use-Pty=0'

give_up() { skip "Debian packages" "$1"; finish; }
[ "$(id -u)" = 0 ] || give_up "only root can make roots"
for root in packages-build packages-clean packages-trixie trixie; do
	[ -f "$cache/$root/.complete" ] || give_up "there is no $root: scripts/setup packages makes it"
done
# On a disk: what is installed takes hundreds of megabytes.
work=$(mktemp -d /var/tmp/packages.XXXXXX)
trap 'rm -rf "$work"' EXIT
out=$work/out
mkdir "$out"

# inside ROOT COMMAND...: in the cached root, with $out as /mnt and without a network, as packages to install are there as
# well; what it changes stays in $work/ROOT. Nothing that it starts outlives it.
inside() {
	local root=$1 over=$work/$1
	shift
	mkdir -p "$over/up" "$over/work" "$over/root"
	unshare --mount --net --pid --fork --kill-child --ipc --uts --propagation private sh -c '
		ip link set lo up
		if [ ! -d "$2/copy" ]; then
			mount -t overlay -o "lowerdir=$1,upperdir=$2/up,workdir=$2/work" overlay "$2/root" 2> /dev/null || cp -a "$1" "$2/copy"
		fi
		[ ! -d "$2/copy" ] || mount --bind "$2/copy" "$2/root"
		mount -t proc proc "$2/root/proc" && mount --bind "$3" "$2/root/mnt" || exit
		root=$2/root
		shift 3
		exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
			SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" chroot "$root" "$@"
	' sh "$cache/$root" "$over" "$out" "$@" < /dev/null
}

# ---- built

# As it is here, be it committed or not.
take_source() {
	mkdir "$out/libsplice" &&
		tar -C "$top" -c --exclude=./build --exclude=./.git --exclude=__pycache__ . | tar -C "$out/libsplice" -x
}

build() {
	inside packages-build sh -c 'cd /mnt/libsplice && dpkg-buildpackage -us -uc -j"$1"' sh "$(nproc)" > "$work/build.log" 2>&1 || {
		grep -E 'rror|\*\*\*' "$work/build.log" | tail -n 5
		return 1
	}
}

# Also what it takes for a warning when the symbols change.
symbols_as_listed() { ! grep -A 30 'dpkg-gensymbols: warning' "$work/build.log"; }
built() { (cd "$out" && printf '%s\n' *.deb | sed 's/_.*//' | sort); }
lints() { inside packages-build sh -c 'lintian --allow-root --fail-on error,warning /mnt/*.changes 2>&1'; }
unit_holds() {
	inside packages-build sh -c 'dpkg-deb -x /mnt/libsplice-tools_*.deb /tmp/tools && cp /tmp/tools/usr/sbin/* /usr/sbin/ &&
		cd /tmp/tools/lib/systemd/system &&
		systemd-analyze verify --man=no ./splicectl-relay@.service &&
		systemd-analyze security --offline=true --threshold=25 ./splicectl-relay@.service'
}

# ---- used

# What apt suggests itself is kept by it otherwise: a compiler.
only_needed='-o APT::AutoRemove::SuggestsImportant=0 -o APT::AutoRemove::RecommendsImportant=0'

# all_files ROOT: but for what dpkg, apt and ldconfig note down for themselves, and the indices of modules that depmod makes,
# which stay where there are headers and no kernel
all_files() {
	inside "$1" find / -xdev \( -path /proc -o -path /mnt -o -path /tmp -o -path /var/lib/dpkg -o -path /var/lib/apt \
		-o -path /var/cache -o -path /var/log \) -prune -o \( -type d -printf '%y %m %p\n' -o -printf '%y %m %s %p %l\n' \) |
		grep -vE ' (/etc/ld.so.cache|/usr/lib/modules(/[^/]*(/modules\.[^/]*)?)?) *$' | sort
}

# leaves_nothing ROOT FILE PACKAGE...: purged, and what only they needed, every file is as in FILE
leaves_nothing() {
	local root=$1 before=$2
	shift 2
	inside "$root" sh -c "$get"' purge "$@" && '"$get $only_needed autoremove --purge" sh "$@" > "$work/purge.log" 2>&1 ||
		{ tail -n 5 "$work/purge.log"; return 1; }
	all_files "$root" > "$work/after.txt"
	diff "$before" "$work/after.txt" > "$work/diff.txt" || { head -n 5 "$work/diff.txt"; return 1; }
	! inside "$root" sh -c '[ -d /lib/modules ] && grep -rl sksplice /lib/modules/' || return 1
	! inside "$root" dpkg-query -W -f '${Package} ${db:Status-Abbrev}\n' "${ours[@]}" 2> /dev/null | grep .
}

# module_for ROOT RELEASE: installed by DKMS, for that kernel, of our version
module_for() {
	inside "$1" sh -c 'dkms status sksplice; dkms status -k "$1" sksplice/"$2" | grep -q "installed" &&
		[ "$(modinfo -k "$1" -F version sksplice)" = "$2" ] && modinfo -k "$1" -F vermagic sksplice | grep -F "$1 "
	' sh "$2" "$version"
}

install_clean() {
	inside packages-clean sh -c "cd /mnt && $get install ./*.deb linux-headers-cloud-amd64 gcc libc6-dev pkgconf" \
		> "$work/install.log" 2>&1 || { tail -n 5 "$work/install.log"; return 1; }
}

program() {
	sed -n '/^```c$/,/^```$/p' "$top/README.md" | sed '/^```/d' | cat - "$here/readme_main.c" > "$out/proxy.c"
	inside packages-clean sh -c 'cd /mnt && cc -Wall -Werror proxy.c $(pkg-config --cflags --libs libsplice) -o proxy &&
		ldd ./proxy | grep -q libsplice.so.1 && ./proxy && ./proxy refuse'
}

# What is no part of the library's own archive, libsplice-dev brings along.
program_static() {
	inside packages-clean sh -c 'cd /mnt && cc proxy.c -l:libsplice.a $(pkg-config --libs libmnl libbpf) -o proxy_static &&
		! ldd ./proxy_static | grep libsplice && ./proxy_static'
}

# The README's second command, between a client and a server that are here.
relays() {
	inside packages-clean bash -c '
		perl -MIO::Socket::INET -e "my \$l = IO::Socket::INET->new(LocalAddr => q(127.0.0.1:80), Listen => 5) or die;
			while (my \$c = \$l->accept) { print \$c scalar <\$c>; close \$c }" &
		splicectl relay --listen :8080 --to 127.0.0.1:80 --quiet &
		for try in {1..50}; do
			exec 3<> /dev/tcp/127.0.0.1/8080 && echo "through $try" >&3 && read -r -t 5 line <&3 && [ "$line" = "through $try" ] &&
				exit 0
			sleep 0.1
		done 2> /dev/null
		exit 1'
}

completes() {
	inside packages-clean bash -c '. /usr/share/bash-completion/completions/splicectl
		try() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); COMPREPLY=(); _splicectl; echo "${COMPREPLY[*]}"; }
		[ "$(try splicectl re)" = relay ] && [ "$(try splicectl relay --lis)" = --listen ] &&
			[ "$(try splicectl relay --engine k)" = kmod ]'
}

is_version() { [ "$(inside packages-clean splicectl version)" = "splicectl $version" ]; }

# ---- trixie

dkms_trixie() {
	mkdir "$out/trixie"
	cp "$cache"/packages-trixie/archives/*.deb "$out/trixie/"
	inside trixie sh -c "$get install /mnt/trixie/*.deb" > "$work/trixie.log" 2>&1 || { tail -n 5 "$work/trixie.log"; return 1; }
}

install_trixie() {
	inside trixie sh -c "$get install /mnt/sksplice-dkms_*.deb" > "$work/trixie.log" 2>&1 ||
		{ tail -n 5 "$work/trixie.log"; return 1; }
}

SOURCE_DATE_EPOCH=$(date +%s)
export SOURCE_DATE_EPOCH
ok "the changelog has the version of the rest" grep -q "^libsplice ($version) " <(head -n 1 "$top/debian/changelog")
ok "the source is there" take_source
ok "dpkg-buildpackage" build
ok "the symbols are as listed" symbols_as_listed
ok "it makes the packages" test "$(built)" = "$(printf '%s\n' "${ours[@]}" | sort)"
ok "lintian" lints
ok "the unit is well-formed and gives little away" unit_holds

all_files packages-clean > "$work/clean.txt"
ok "the list of files is one" test "$(wc -l < "$work/clean.txt")" -gt 3000
ok "apt install ./*.deb in a clean Debian 12" install_clean
ok "splicectl is of this version" is_version
ok "the README's program" program
ok "the README's program with the archive" program_static
ok "splicectl probe" inside packages-clean splicectl probe
ok "the README's relay" relays
ok "bash completes" completes
release=$(inside packages-clean ls /lib/modules | grep cloud)
ok "the module for ${release:-6.1}" module_for packages-clean "$release"
ok "apt purge leaves nothing behind" leaves_nothing packages-clean "$work/clean.txt" "${ours[@]}" \
	linux-headers-cloud-amd64 gcc libc6-dev pkgconf

ok "dkms in a trixie" dkms_trixie
all_files trixie > "$work/trixie.txt"
ok "apt install ./sksplice-dkms_*.deb there" install_trixie
for kernel in 6.12 7.2; do
	if release=$("$top/scripts/kernel" release $kernel 2> /dev/null); then
		ok "the module for $release" module_for trixie "$release"
	else
		skip "the module for $kernel" "not in trixie's root"
	fi
done
ok "apt purge leaves nothing behind in trixie" leaves_nothing trixie "$work/trixie.txt" sksplice-dkms
finish
