// SPDX-License-Identifier: GPL-2.0
/* Metrics of the relay: Prometheus text over the least HTTP that its clients speak. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "relay.h"

#define REQUEST_MS	5000

static void metric(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP splicectl_relay_%s %s\n# TYPE splicectl_relay_%s %s\n", name, help, name, type);
}

static void value(FILE *f, const char *name, const char *label, const char *is, uint64_t n)
{
	if (label)
		fprintf(f, "splicectl_relay_%s{%s=\"%s\"} %" PRIu64 "\n", name, label, is, n);
	else
		fprintf(f, "splicectl_relay_%s %" PRIu64 "\n", name, n);
}

/* Bytes of those that ended and those that run. One that is over, its event on the way, counts as last seen. */
static void sum_bytes(struct relay *r, uint64_t *forth, uint64_t *back)
{
	struct carried *c;
	struct spl_stat stat;

	*forth = r->count.bytes;
	*back = r->count.bytes_back;
	LIST_FOREACH(c, &r->carried, all) {
		if (!spl_stat(r->spl, c->token, &stat)) {
			c->bytes = stat.bytes;
			c->bytes_back = stat.bytes_back;
		}
		*forth += c->bytes;
		*back += c->bytes_back;
	}
}

static void write_metrics(struct relay *r, FILE *f)
{
	uint64_t forth, back;

	sum_bytes(r, &forth, &back);
	metric(f, "connections_total", "counter", "Connections accepted.");
	value(f, "connections_total", NULL, NULL, r->count.accepted);
	metric(f, "connections_connecting", "gauge", "Connections whose other side is being connected.");
	value(f, "connections_connecting", NULL, NULL, r->count.connecting);
	metric(f, "connections_active", "gauge", "Connections that the engine carries.");
	value(f, "connections_active", NULL, NULL, r->count.active);
	metric(f, "connections_failed_total", "counter", "Connections that never were carried.");
	value(f, "connections_failed_total", "reason", "unreachable", r->count.unreachable);
	value(f, "connections_failed_total", "reason", "refused", r->count.refused);
	metric(f, "connections_ended_total", "counter", "Connections that were carried and ended.");
	for (unsigned int i = 0; i < RELAY_CAUSES; i++)
		value(f, "connections_ended_total", "cause", spl_cause_name((enum spl_cause)i), r->count.cause[i]);
	metric(f, "bytes_total", "counter", "Bytes forwarded, from clients (forth) and to them (back).");
	value(f, "bytes_total", "direction", "forth", forth);
	value(f, "bytes_total", "direction", "back", back);
	metric(f, "uptime_milliseconds", "gauge", "Since the relay began.");
	value(f, "uptime_milliseconds", NULL, NULL, relay_now() - r->began);
	metric(f, "engine", "gauge", "The engine in use.");
	value(f, "engine", "name", spl_engine_name(spl_engine(r->spl)), 1);
}

/* A whole answer in memory that the caller frees; NULL: there is none to have. */
static char *render(const char *status, const char *body, size_t len, bool head, size_t *size)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, size);

	if (!f)
		return NULL;
	fprintf(f, "HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
		"Content-Length: %zu\r\nConnection: close\r\n\r\n", status, len);
	if (!head)
		fwrite(body, 1, len, f);
	if (!fclose(f))
		return text;
	free(text);
	return NULL;
}

static char *render_metrics(struct relay *r, bool head, size_t *size)
{
	char *body = NULL, *answer = NULL;
	size_t len;
	FILE *f = open_memstream(&body, &len);

	if (!f)
		return NULL;
	/* what has ended is counted as ended: the figures of one answer agree */
	relay_take_events(r, 0, false);
	write_metrics(r, f);
	if (!fclose(f))
		answer = render("200 OK", body, len, head, size);
	free(body);
	return answer;
}

static char *render_error(const char *status, size_t *size)
{
	char body[64];
	int len = snprintf(body, sizeof(body), "%s\n", status);

	return render(status, body, (size_t)len, false, size);
}

static bool is_metrics(const char *path)
{
	size_t len = strcspn(path, " ?");

	return (len == 8 && !strncmp(path, "/metrics", 8)) || (len == 1 && *path == '/');
}

static char *answer(struct relay *r, const char *request, size_t *size)
{
	bool head = !strncmp(request, "HEAD ", 5);

	if (!head && strncmp(request, "GET ", 4))
		return render_error("405 Method Not Allowed", size);
	if (!is_metrics(request + (head ? 5 : 4)))
		return render_error("404 Not Found", size);
	return render_metrics(r, head, size);
}

static void forget(struct relay *r, struct scrape *s)
{
	TAILQ_REMOVE(&r->scrapes, s, by_deadline);
	r->n_scrapes--;
	close(s->watch.fd);
	free(s->answer);
	free(s);
}

static void send_answer(struct relay *r, struct scrape *s)
{
	ssize_t n;

	while (s->done < s->len) {
		n = send(s->watch.fd, s->answer + s->done, s->len - s->done, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN) {
			relay_rewatch(r, &s->watch, EPOLLOUT);
			return;
		}
		if (n < 0 && errno != EINTR)
			break;
		if (n > 0)
			s->done += (size_t)n;
	}
	forget(r, s);
}

/* Reads on; true: the head of the request is complete, or will never be and is answered as it is. */
static bool read_request(struct scrape *s)
{
	size_t room = sizeof(s->request) - 1 - s->len;
	ssize_t n = recv(s->watch.fd, s->request + s->len, room, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n > 0)
		s->len += (size_t)n;
	s->request[s->len] = '\0';
	return n <= 0 || (size_t)n == room || strstr(s->request, "\r\n\r\n") || strstr(s->request, "\n\n");
}

static void scrape_ready(struct relay *r, struct watch *w, uint32_t events)
{
	struct scrape *s = (struct scrape *)((char *)w - offsetof(struct scrape, watch));

	(void)events;
	if (s->answer) {
		send_answer(r, s);
		return;
	}
	if (!read_request(s))
		return;
	s->answer = answer(r, s->request, &s->len);
	if (s->answer)
		send_answer(r, s);
	else
		forget(r, s);
}

void relay_metrics_ready(struct relay *r, struct watch *w, uint32_t events)
{
	struct addr peer;
	struct scrape *s;
	int fd = relay_accept(r, w, &peer);

	(void)events;
	if (fd < 0)
		return;
	s = calloc(1, sizeof(*s));
	if (!s) {
		close(fd);
		return;
	}
	s->watch = (struct watch){ .fd = fd, .ready = scrape_ready };
	s->deadline = relay_now() + REQUEST_MS;
	TAILQ_INSERT_TAIL(&r->scrapes, s, by_deadline);
	r->n_scrapes++;
	if (relay_watch(r, &s->watch, EPOLLIN))
		forget(r, s);
}

void relay_expire_scrapes(struct relay *r, uint64_t now)
{
	struct scrape *s;

	while ((s = TAILQ_FIRST(&r->scrapes)) && s->deadline <= now)
		forget(r, s);
}

void relay_metrics_release(struct relay *r)
{
	relay_expire_scrapes(r, UINT64_MAX);
}
