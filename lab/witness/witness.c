/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program whose data proves a snapshot.
 *
 *   witness record LOG PORT SECOND PERIOD_MS
 *
 *     For ever: append a numbered record to LOG and sync it, write the same
 *     record to the start of the block device SECOND, send the number to
 *     the host through the character device PORT. PORT and SECOND may
 *     be "-". The host sees every stall as a silence of PORT. In a view of
 *     both disks at one instant, SECOND is equal to the end of LOG or one
 *     behind it.
 *
 *   witness fill MEBIBYTES SEED
 *
 *     Write incompressible data to standard output, the same for the
 *     same SEED.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A record is its number, four times, so that a torn one shows. */
#define RECORD_SIZE 64
#define SECTOR_SIZE 4096

static int open_or_none(const char *path, int flags)
{
	int fd;

	if (!strcmp(path, "-"))
		return -1;
	fd = open(path, flags);
	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static void write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t written = write(fd, data, size);

		if (written < 0)
			err(1, "write");
		data += written;
		size -= written;
	}
}

static void record(const char *log_path, const char *port_path,
		   const char *second_path, unsigned int period_ms)
{
	int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	/* A host that does not read must not stop the witness. */
	int port = open_or_none(port_path, O_WRONLY | O_NONBLOCK);
	int second = open_or_none(second_path, O_WRONLY | O_DIRECT | O_DSYNC);
	uint64_t number;
	char *sector;

	if (log < 0)
		err(1, "%s", log_path);
	if (posix_memalign((void **)&sector, SECTOR_SIZE, SECTOR_SIZE))
		errx(1, "out of memory");
	memset(sector, 0, SECTOR_SIZE);
	number = lseek(log, 0, SEEK_END) / RECORD_SIZE;
	for (;;) {
		char text[RECORD_SIZE + 1];

		number++;
		snprintf(text, sizeof(text),
			 "%015" PRIu64 " %015" PRIu64 " %015" PRIu64
			 " %015" PRIu64 "\n",
			 number, number, number, number);
		write_all(log, text, RECORD_SIZE);
		if (fdatasync(log))
			err(1, "%s", log_path);
		if (second >= 0) {
			memcpy(sector, text, RECORD_SIZE);
			if (pwrite(second, sector, SECTOR_SIZE, 0) !=
			    SECTOR_SIZE)
				err(1, "%s", second_path);
		}
		if (port >= 0 && dprintf(port, "%" PRIu64 "\n", number) < 0 &&
		    errno != EAGAIN)
			err(1, "%s", port_path);
		usleep(period_ms * 1000);
	}
}

static void fill(unsigned long mebibytes, uint64_t seed)
{
	static uint64_t words[(1 << 20) / sizeof(uint64_t)];
	/* xorshift64 has to start from something else than zero. */
	uint64_t state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;

	while (mebibytes-- > 0) {
		for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			words[i] = state;
		}
		write_all(STDOUT_FILENO, (const char *)words, sizeof(words));
	}
}

int main(int argc, char **argv)
{
	if (argc == 6 && !strcmp(argv[1], "record"))
		record(argv[2], argv[3], argv[4], strtoul(argv[5], NULL, 10));
	else if (argc == 4 && !strcmp(argv[1], "fill"))
		fill(strtoul(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
	else
		errx(2, "usage: witness record LOG PORT SECOND PERIOD_MS | "
			"fill MEBIBYTES SEED");
	return 0;
}
