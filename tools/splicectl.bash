# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Completion of splicectl in bash. Commands and options are asked of the program itself.

_splicectl_commands() { splicectl help 2> /dev/null | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'; }
_splicectl_options() { splicectl "$1" --help 2> /dev/null | sed -n 's/^  \(-[a-z], \)\{0,1\}\(--[a-z-]*\).*/\2/p'; }
_splicectl_ids() { splicectl list 2> /dev/null | awk '$1 ~ /^[0-9]+(\/[0-9]+)?$/ { print $1 }'; }

_splicectl() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' i
	for ((i = 1; i < COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == -* ]] || { command=${COMP_WORDS[i]}; break; }
	done
	case $before:$command:$word in
	--engine:*) mapfile -t COMPREPLY < <(compgen -W 'auto kmod sockmap user' -- "$word") ;;
	--cgroup:*) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
	*::-*) mapfile -t COMPREPLY < <(compgen -W '--json --help --version' -- "$word") ;;
	*::*) mapfile -t COMPREPLY < <(compgen -W "$(_splicectl_commands)" -- "$word") ;;
	*:help:*) mapfile -t COMPREPLY < <(compgen -W "$(_splicectl_commands)" -- "$word") ;;
	*:-*) mapfile -t COMPREPLY < <(compgen -W "$(_splicectl_options "$command")" -- "$word") ;;
	*:show:* | *:cancel:* | *:kill:*) mapfile -t COMPREPLY < <(compgen -W "$(_splicectl_ids)" -- "$word") ;;
	esac
}
complete -F _splicectl splicectl
