/*
 * Asks libfbsdvmcore, the portable fork of FreeBSD's libkvm, about a core: the peer of test/c-reader.test.ts.
 *
 *   driver KERNEL CORE
 *
 * stdin: a line "KVA LEN" a read, KVA in hex, LEN in decimal. stdout: a line each, LEN bytes in hex, or "-".
 * A core that it does not open: the reason on stderr, status 1. Symbols all resolve to 0: minidumps need none.
 *
 * To build, with libelf's headers, in the source tree of libfbsdvmcore (its CMakeLists.txt does the first two lines too):
 *
 *   echo '#define HAVE_ENDIAN_H 1' >config.h
 *   cc -g -D_GNU_SOURCE -I. -Ilib -o driver /path/to/driver.c lib/fvc*.c -lelf
 *
 * Its table of popcounts is a word too short for bitmaps of whole pages: give `pt_popcounts` one more element, or
 * valgrind and hardened allocators will complain.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "fvc.h"

static int
resolve(const char *name, fvc_addr_t *address, void *data)
{
	(void)name;
	(void)data;
	*address = 0;
	return (0);
}

/* fvc_read() says -1 for a read that fails anywhere, and fewer bytes where the file ends. */
static void
answer(fvc_t *core, fvc_addr_t kva, size_t length)
{
	unsigned char *bytes = malloc(length + 1);

	if (bytes == NULL || fvc_read(core, kva, bytes, length) != (ssize_t)length)
		printf("-");
	else
		for (size_t i = 0; i < length; i++)
			printf("%02x", bytes[i]);
	printf("\n");
	free(bytes);
}

int
main(int argc, char **argv)
{
	char error[_POSIX2_LINE_MAX] = "";
	fvc_t *core;
	uint64_t kva;
	size_t length;

	if (argc != 3) {
		fprintf(stderr, "usage: %s KERNEL CORE\n", argv[0]);
		return (2);
	}
	core = fvc_open(argv[1], argv[2], error, resolve, NULL);
	if (core == NULL) {
		fprintf(stderr, "%s\n", error);
		return (1);
	}
	while (scanf("%" SCNx64 " %zu", &kva, &length) == 2)
		answer(core, kva, length);
	return (fvc_close(core) == 0 ? 0 : 1);
}
