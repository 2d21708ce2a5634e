# SPDX-License-Identifier: GPL-2.0
# The manuals: nothing is built, they are installed as they are. Included by the top-level Makefile.

MANDIR	?= $(PREFIX)/share/man
MANUALS	:= $(wildcard Documentation/man/*.[1-9])

# A page has a link for each further name that it gives: readers look for the function.
install-man:
	for page in $(MANUALS); do \
		name=$${page##*/} section=$${page##*.}; \
		install -D -m 644 $$page $(DESTDIR)$(MANDIR)/man$$section/$$name || exit 1; \
		for other in $$(sed -n 's/^\.Nm \([^ ]*\).*/\1/p; /^\.Sh SYNOPSIS/q; /^\.Sh LIBRARY/q' $$page); do \
			[ $$other.$$section = $$name ] || \
				ln -sf $$name $(DESTDIR)$(MANDIR)/man$$section/$$other.$$section || exit 1; \
		done; \
	done
install: install-man

.PHONY: install-man
