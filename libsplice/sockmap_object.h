/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* sockmap_object.h: how the engine's programs come into the library, and into the kernel. */
#ifndef SPL_SOCKMAP_OBJECT_H
#define SPL_SOCKMAP_OBJECT_H

#include <bpf/libbpf.h>

#define SOCKMAP_REASON	128

/* The bytes of a file, from name to name_end. */
#define SOCKMAP_EMBED(name, file)							\
	asm(".pushsection .rodata\n"							\
	    ".balign 8\n"								\
	    #name ": .incbin \"" file "\"\n"						\
	    #name "_end:\n"								\
	    ".popsection\n");								\
	extern const char name[] __attribute__((visibility("hidden")));			\
	extern const char name##_end[] __attribute__((visibility("hidden")))

/*
 * libbpf says what it dislikes on stderr, for the whole process: between these two the first of it goes to reason, where it is
 * a part of a sentence. Not nested, and no two threads at a time.
 */
void sockmap_object_listen(char reason[SOCKMAP_REASON]);
void sockmap_object_hush(void);

/* Opens and loads what SOCKMAP_EMBED() has brought. *out is set, and to be closed, unless it is NULL. */
int sockmap_object_load(const char *from, const char *to, char reason[SOCKMAP_REASON], struct bpf_object **out);

#endif /* SPL_SOCKMAP_OBJECT_H */
