// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The head of an HTTP/1 message: how long its body is, and what follows from it. Strict, since another one reads the same
 * bytes after us: what could be understood in two ways is refused.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "examples.h"

struct text {
	const char *p;
	size_t len;
};

static bool is(struct text t, const char *word)
{
	return t.len == strlen(word) && !strncasecmp(t.p, word, t.len);
}

static bool is_token(struct text t)
{
	size_t i;

	for (i = 0; i < t.len; i++)
		if (!isalnum((unsigned char)t.p[i]) && (!t.p[i] || !strchr("!#$%&'*+-.^_`|~", t.p[i])))
			return false;
	return t.len;
}

static struct text trim(struct text t)
{
	while (t.len && (*t.p == ' ' || *t.p == '\t')) {
		t.p++;
		t.len--;
	}
	while (t.len && (t.p[t.len - 1] == ' ' || t.p[t.len - 1] == '\t'))
		t.len--;
	return t;
}

/* Takes what is before the character off the front; false: it is not there. */
static bool cut(struct text *t, char at, struct text *out)
{
	const char *end = memchr(t->p, at, t->len);

	if (!end)
		return false;
	*out = (struct text){ t->p, (size_t)(end - t->p) };
	t->len -= out->len + 1;
	t->p = end + 1;
	return true;
}

/* The next line, without its CRLF; false: something else ends it, or it has control characters. */
static bool next_line(struct text *t, struct text *line)
{
	if (!cut(t, '\n', line) || !line->len || line->p[--line->len] != '\r')
		return false;
	for (size_t i = 0; i < line->len; i++)
		if (iscntrl((unsigned char)line->p[i]) && line->p[i] != '\t')
			return false;
	return true;
}

/* Digits and nothing else, 18 at most: no sign, no list, no overflow. */
static bool decimal(struct text t, uint64_t *out)
{
	size_t i;

	for (i = 0, *out = 0; i < t.len; i++) {
		if (!isdigit((unsigned char)t.p[i]))
			return false;
		*out = *out * 10 + (uint64_t)(t.p[i] - '0');
	}
	return t.len && t.len <= 18;
}

bool chunk_size(const char *line, size_t len, uint64_t *size)
{
	static const char digits[] = "0123456789abcdef";
	struct text all = { line, len }, t, number;
	size_t i;

	if (!next_line(&all, &t) || all.len)
		return false;
	if (!cut(&t, ';', &number))		/* nobody needs the extensions */
		number = t;
	number = trim(number);
	for (i = 0, *size = 0; i < number.len; i++) {
		const char *d = memchr(digits, tolower((unsigned char)number.p[i]), 16);

		if (!d)
			return false;
		*size = *size * 16 + (uint64_t)(d - digits);
	}
	return number.len && number.len <= 15;
}

/* "HTTP/1.1" or "HTTP/1.0", whose connections end with the answer. */
static bool version(struct text t, struct head *h)
{
	h->old = is(t, "HTTP/1.0");
	h->close = h->old;
	return t.len == 8 && !memcmp(t.p, "HTTP/1.", 7) && (h->old || t.p[7] == '1');
}

static int request_line(struct text line, struct head *h, const char **why)
{
	struct text method, target;

	*why = "no request line of HTTP/1";
	if (!cut(&line, ' ', &method) || !is_token(method) || !cut(&line, ' ', &target) || !target.len || !version(line, h))
		return 400;
	h->is_head = is(method, "HEAD");
	*why = "a method that is not forwarded";
	return is(method, "CONNECT") ? 501 : 0;
}

static int status_line(struct text line, struct head *h, const char **why)
{
	struct text first, status;
	uint64_t n;

	*why = "no status line of HTTP/1";
	if (!cut(&line, ' ', &first) || !version(first, h))
		return 502;
	if (!cut(&line, ' ', &status))
		status = line;
	if (status.len != 3 || !decimal(status, &n) || n < 100)
		return 502;
	h->status = (int)n;
	return 0;
}

/* Lists too: "Connection: keep-alive, close". */
static bool has_word(struct text list, const char *word)
{
	struct text one;

	while (cut(&list, ',', &one))
		if (is(trim(one), word))
			return true;
	return is(trim(list), word);
}

static bool field(struct text line, struct head *h, const char **why)
{
	struct text name;

	*why = "a malformed header line";
	if (!cut(&line, ':', &name) || !is_token(name))
		return false;
	line = trim(line);
	if (is(name, "Connection") && has_word(line, "close"))
		h->close = true;
	if (is(name, "Expect"))
		h->expects = !h->old && is(line, "100-continue");
	if (!is(name, "Content-Length") && !is(name, "Transfer-Encoding"))
		return true;
	*why = "the length of the body is given twice";
	if (h->body != BODY_NONE)
		return false;
	*why = "the length of the body makes no sense";
	h->body = is(name, "Content-Length") ? BODY_LENGTH : BODY_CHUNKED;
	return h->body == BODY_LENGTH ? decimal(line, &h->length) : is(line, "chunked");
}

int head_parse(const char *p, size_t len, struct head *h, const char **why)
{
	struct text all = { p, len }, line;
	int bad = h->request ? 400 : 502, error;

	*why = "control characters in the head";
	if (!next_line(&all, &line))
		return bad;
	error = h->request ? request_line(line, h, why) : status_line(line, h, why);
	if (error)
		return error;
	for (;;) {
		*why = "control characters in the head";
		if (!next_line(&all, &line))
			return bad;
		if (!line.len)
			break;
		if (!field(line, h, why))
			return bad;
	}
	*why = "chunks in HTTP/1.0";
	if (h->body == BODY_CHUNKED && h->old)
		return bad;
	if (!h->request && (h->no_body || h->status < 200 || h->status == 204 || h->status == 304))
		h->body = BODY_NONE;
	else if (!h->request && h->body == BODY_NONE)
		h->body = BODY_REST;
	return 0;
}
