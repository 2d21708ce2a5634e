#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# man.sh: the manuals are well-formed, each function, command, option, sysctl and module parameter has its place in them and
# nothing else has, and what they quote is what the header says and compiles. Runs on the host; programs are in $BUILD.
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/.." && pwd)
. "$here/tap.sh"
splicectl=${BUILD:-$top/build}/splicectl
header=$top/libsplice/libsplice.h
source=$top/Documentation/man
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
man=$work/usr/share/man

# the same NAME SET SET: a point; what only one of them has is told
same() {
	diff <(echo "$2" | sort -u) <(echo "$3" | sort -u) > "$work/diff" && [ -n "$2" ]
	now $? "$1"
	[ ! -s "$work/diff" ] || tap_say < "$work/diff"
}

silent() { [ -z "$("$@" 2>&1 | tee /dev/stderr)" ]; }
section() { sed -n "/^\.Sh $2\$/,/^\.Sh /p" "$1" | sed '$d'; }
names() { section "$1" NAME | sed -n 's/^\.Nm \([^ ]*\).*/\1/p'; }

ok "make install-man" make -s -C "$top" install-man DESTDIR="$work" PREFIX=/usr
for page in "$source"/*.[1-9]; do
	ok "${page##*/} passes mandoc" mandoc -T lint -W warning "$page"
	ok "${page##*/} passes groff" silent groff -mdoc -ww -z -T utf8 "$page"
done

# ---- functions

public() { sed -n '/^LIBSPLICE_[0-9]/,/^}/s/^\t\(spl_[a-z_]*\);$/\1/p' "$top/libsplice/libsplice.map"; }
described() { for page in "$source"/spl_*.3; do names "$page"; done | grep -vx spl_opts; }
same "each function of the library has a page, each page's function is one" "$(public)" "$(described)"
resolves() { [ -f "$man/man3/$1.3" ] && names "$man/man3/$1.3" | grep -qx "$1"; }
for f in $(public); do
	ok "$f(3) is found" resolves "$f"
done

# the functions' declarations, without blanks
in_synopsis() {
	awk '
	function take(s) { out = out (n++ ? "," : "") s }
	function unquoted(s) { gsub(/"/, "", s); return s }
	/^\.Ft / { type = unquoted(substr($0, 5)) }
	/^\.Fo / { out = type $2 "("; n = 0 }
	/^\.Fa / { take(unquoted(substr($0, 5))) }
	/^\.Fc/ { print out ");" }
	/^\.Fn / {
		rest = substr($0, 5); out = type; n = 0
		out = out substr(rest, 1, index(rest " ", " ") - 1) "("
		while (match(rest, /"[^"]*"/)) { take(substr(rest, RSTART + 1, RLENGTH - 2)); rest = substr(rest, RSTART + RLENGTH) }
		print out ");"
	}' | tr -d ' \t'
}
same "their prototypes are the header's" "$(sed -n 's/^SPL_API \([^;]*;\).*/\1/p' "$header" | tr -d ' \t')" \
	"$(for page in "$source"/spl_*.3; do section "$page" SYNOPSIS | in_synopsis; done)"

# structures that a page quotes, one a line without blanks
structures() { awk '/^struct spl_[a-z_]* \{$/ { on = 1 } on { printf "%s", $0 } /^};/ && on { print ""; on = 0 }' "$@" | tr -d ' \t'; }
in_header() { sed 's,/\*.*\*/,,' "$header" | structures; }
same "structures are quoted as the header has them" "$(in_header)" "$(cat "$source"/*.3 | structures)"
constants() { sed 's,/\*.*\*/,,' "$header" | grep -oE '\bSPL_[A-Z_]+\b' | grep -vx SPL_API | sort -u; }
same "each constant of the header is in a manual" "$(constants)" \
	"$(for c in $(constants); do ! grep -qw "$c" "$source"/*.[1-9] || echo "$c"; done)"

# ---- examples

examples() { section "$1" EXAMPLES | sed -n '/^\.Bd -literal/,/^\.Ed/{/^\./!p}' | sed 's/\\e/\\/g; s/\\&//g; s/\\-/-/g'; }
compiles() {
	examples "$1" > "$work/example.c"
	grep -q '#include <libsplice.h>' "$work/example.c" || { echo "no example"; return 1; }
	for compiler in "cc -std=c11 -Wextra" "c++ -std=c++20 -x c++"; do
		$compiler -O2 -Wall -Werror -I"$top/libsplice" -c -o "$work/example.o" "$work/example.c" || return 1
	done
}
for page in "$source"/*.3 "$source/libsplice.7"; do
	ok "the example of ${page##*/} compiles" compiles "$page"
done

# ---- splicectl(8)

page=$source/splicectl.8
# part COMMAND: what is said of it; none: what comes before all of them
part() {
	if [ $# = 0 ]; then
		section "$page" DESCRIPTION | sed '/^\.Ss /,$d'
	else
		section "$page" DESCRIPTION | awk -v want="$1" '/^\.Ss / { on = $2 == want } on'
	fi
}
page_options() { sed -n 's/^\.It \(Fl .*\)/\1/p' | sed 's/ Ar .*//; s/Fl \([^ ]*\)/-\1/g; s/ , / /'; }
# an option and its short form, as "-b --bytes"
help_options() { "$splicectl" "$@" --help | sed -nE 's/^  ((-[a-zA-Z], )?--[a-z-]+).*/\1/p' | sed 's/,//'; }
help_commands() { "$splicectl" --help | sed -nE 's/^  ([a-z]+) .*/\1/p'; }
common='^-j --json$|^-h --help$'

same "each command is in splicectl(8), and no other" "$(help_commands)" "$(section "$page" DESCRIPTION | sed -n 's/^\.Ss //p')"
for c in $(help_commands); do
	same "the options of $c, and no other" "none $(help_options "$c" | grep -vE "$common")" "none $(part "$c" | page_options)"
done
common_in_help() { for c in $(help_commands); do help_options "$c"; done | grep -E "$common"; }
same "the common options" "$(common_in_help; echo "-V --version")" "$(part | page_options)"
for o in $(part | page_options); do
	"$splicectl" "$o" version > "$work/version" 2>&1
	now $? "splicectl takes $o"
done
same "each begins with its synopsis" "$(help_commands)" \
	"$(for c in $(help_commands); do ! part "$c" | sed -n '2,3p' | paste -sd ' ' | grep -qxF ".Nm .Cm $c" || echo "$c"; done)"

# ---- sksplice(4)

page=$source/sksplice.4
same "each sysctl is in sksplice(4), and no other" \
	"$(sed -n 's/.*\.procname.*= "\(.*\)".*/net.sksplice.\1/p' "$top/kmod/policy.c")" "$(sed -n 's/^\.It Va \(.*\)/\1/p' "$page")"
parameters() { grep -ohE 'module_param(_named|_array|_call|_string|_cb)?\([^,)]*' "$top"/kmod/*.c | sed 's/.*(//' | sort -u; }
said_parameters() { sed -n '/^\.Ss Module parameters/,/^\.Ss /p' "$page" | sed -n 's/^\.It Cm \([^ ]*\).*/\1/p; s/^The module has no parameters\.$/none/p'; }
same "each module parameter, and no other" "$(parameters | grep . || echo none)" "$(said_parameters)"
same "each netlink command, and no other" "$(grep -ohE '^.SKSPLICE_CMD_[A-Z_]+' "$top/kmod/uapi/sksplice.h" | tr -d '\t' | grep -v UNSPEC)" \
	"$(grep '^\.It Dv' "$page" | grep -oE 'SKSPLICE_CMD_[A-Z_]+')"
counters() { sed -n 's/^\t\[SKSPLICE_A_STAT_[A-Z]*\] = { "\([a-z]*\)".*/\1/p' "$top/tools/cmd_stats.c"; }
same "each counter" "$(counters)" "$(sed -n '/^\.Ss Counters/,/^\.Sh /p' "$page" | grep -oE '[a-z]+' | grep -xF "$(counters)")"

# ---- what refers to what

# "program.test" and "program" of SECURITY.md; a test in another language has its suffix
tests() { sed -n '/^# Security/,$p' "$top/SECURITY.md" | grep -oE '`[a-z_]+(\.[a-z_]+)?`' | tr -d '`' | sort -u; }
listed() { awk '!/^#/ && NF > 1 { print $1 }' "$here/vm/tests.list"; }
is_test() { ! [ -f "$here/$1.c" ] || grep -qE "^[A-Z_]+\(([a-z_]+, )?$2[,)]" "$here/$1.c"; }
said=0
for name in $(tests); do
	program=${name%%.*}
	case $name in
	kernel.* | user.* | net.*) continue ;;	# sysctls
	*.sh | *.py) program=$name ;;
	*.*) ;;
	*) listed | grep -qx "$program" || continue ;;
	esac
	listed | grep -qx "$program" && { [ "$program" = "$name" ] || is_test "$program" "${name#*.}"; }
	now $? "the test $name of SECURITY.md is there"
	said=$((said + 1))
done
ok "SECURITY.md names tests" test "$said" -ge 30

referred() { sed -n 's/^\.\(It \)\{0,1\}Xr //p' "$source"/*.[1-9] | grep -oE '(spl_[a-z_]+|sksplice|splicectl|libsplice) [1-9]' | sort -u; }
there() { [ -f "$man/man$2/$1.$2" ]; }
while read -r name number; do
	ok "$name($number) is there" there "$name" "$number"
done < <(referred)
finish
