// SPDX-License-Identifier: GPL-2.0
/* Output: JSON documents and lines, human numbers, tables whose columns fit. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "splicectl.h"

/* Consumes the object. */
void out_json(struct json_object *object)
{
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}

/* One line, sent on its way: whoever reads a stream wants it now. Consumes the object. */
void out_json_line(struct json_object *object)
{
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);
	json_object_put(object);
}

void out_field(const char *name, const char *fmt, ...)
{
	va_list ap;

	printf("%-14s ", name);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

const char *out_bytes(uint64_t bytes, char text[OUT_TEXT])
{
	static const char units[] = "KMGTPE";
	double value = (double)bytes / 1024;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(text, OUT_TEXT, "%" PRIu64, bytes);
		return text;
	}
	/* 1023.95 would be printed as 1024.0 */
	for (; value >= 1023.95 && units[unit + 1]; value /= 1024)
		unit++;
	snprintf(text, OUT_TEXT, "%.1f%c", value, units[unit]);
	return text;
}

const char *out_ms(uint64_t ms, char text[OUT_TEXT])
{
	uint64_t s = ms / 1000, m = s / 60, h = m / 60;

	if (ms < 1000)
		snprintf(text, OUT_TEXT, "%" PRIu64 "ms", ms);
	else if (m < 1)
		snprintf(text, OUT_TEXT, "%" PRIu64 ".%" PRIu64 "s", s, ms % 1000 / 100);
	else if (h < 1)
		snprintf(text, OUT_TEXT, "%" PRIu64 "m%02" PRIu64 "s", m, s % 60);
	else if (h < 48)
		snprintf(text, OUT_TEXT, "%" PRIu64 "h%02" PRIu64 "m", h, m % 60);
	else
		snprintf(text, OUT_TEXT, "%" PRIu64 "d%02" PRIu64 "h", h / 24, h % 24);
	return text;
}

/* A command-line tool without memory has nothing left to say. */
void *out_alloc(void *old, size_t size)
{
	void *p = realloc(old, size);

	if (!p) {
		cli_error("out of memory");
		exit(CLI_FAILED);
	}
	return p;
}

void out_table_init(struct out_table *t, const char *const *titles, size_t columns)
{
	*t = (struct out_table){ .titles = titles, .columns = columns };
}

/* Begins a new, empty row. */
void out_table_row(struct out_table *t)
{
	if (t->rows == t->room) {
		t->room = t->room ? 2 * t->room : 64;
		t->cells = out_alloc(t->cells, t->room * t->columns * sizeof(*t->cells));
	}
	memset(t->cells + t->rows++ * t->columns, 0, t->columns * sizeof(*t->cells));
}

/* Sets a cell of the newest row. */
void out_table_cell(struct out_table *t, size_t column, const char *fmt, ...)
{
	char **cell = &t->cells[(t->rows - 1) * t->columns + column];
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	*cell = out_alloc(*cell, strlen(text) + 1);
	strcpy(*cell, text);
}

static const char *table_text(const struct out_table *t, size_t row, size_t column)
{
	const char *text = row ? t->cells[(row - 1) * t->columns + column] : t->titles[column];

	return text && *text ? text : "-";
}

static int table_width(const struct out_table *t, size_t column)
{
	size_t width = 0;

	for (size_t row = 0; row <= t->rows; row++) {
		size_t len = strlen(table_text(t, row, column));

		if (len > width)
			width = len;
	}
	return (int)width;
}

/* Prints the table and releases what it holds. */
void out_table_print(struct out_table *t)
{
	int *width = out_alloc(NULL, t->columns * sizeof(*width));

	for (size_t column = 0; column < t->columns; column++)
		width[column] = table_width(t, column);
	for (size_t row = 0; row <= t->rows; row++) {
		for (size_t column = 0; column + 1 < t->columns; column++)
			printf("%-*s ", width[column], table_text(t, row, column));
		puts(table_text(t, row, t->columns - 1));
	}
	for (size_t i = 0; i < t->rows * t->columns; i++)
		free(t->cells[i]);
	free(t->cells);
	free(width);
}
