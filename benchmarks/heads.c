/*
 * A load generator for HEAD, which wrk cannot make: it waits for the body that Content-Length
 * announces. Prints what benchmarks/lua/report.lua makes wrk print.
 *
 * heads PORT CONNECTIONS SECONDS REQUEST: keep-alive connections to 127.0.0.1, on each of them one
 * request at a time. An answer ends with its head; whatever follows it is a read error.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_LIMIT = 16384, SLOWEST_US = 5000000 };

struct connection {
    int socket;
    long long asked_us;
    size_t length;
    char head[HEAD_LIMIT + 1];
};

static unsigned latencies[SLOWEST_US + 1]; /* how many answers took this many microseconds */
static long requests, bytes, read_errors, write_errors, status_errors;

static long long now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void ask(struct connection *c, const char *request, size_t length)
{
    c->length = 0;
    c->asked_us = now_us();
    if (send(c->socket, request, length, MSG_NOSIGNAL) != (ssize_t)length)
        write_errors++;
}

/* Count an answer that is complete; whether the next request may follow. */
static int received(struct connection *c)
{
    ssize_t count = recv(c->socket, c->head + c->length, HEAD_LIMIT - c->length, MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN)
        return 0;
    if (count <= 0) {
        read_errors++;
        close(c->socket); /* which also takes it out of epoll's set */
        return 0;
    }
    bytes += count;
    c->length += count;
    c->head[c->length] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (end == NULL) {
        if (c->length == HEAD_LIMIT)
            read_errors++;
        return 0;
    }
    if (end + 4 != c->head + c->length)
        read_errors++; /* a body */
    if (strncmp(c->head, "HTTP/1.1 ", 9) != 0 || atoi(c->head + 9) > 399)
        status_errors++;
    long long took = now_us() - c->asked_us;
    latencies[took < SLOWEST_US ? took : SLOWEST_US]++;
    requests++;
    return 1;
}

static long percentile(double share)
{
    long seen = 0;
    for (long us = 0; us <= SLOWEST_US; us++)
        if ((seen += latencies[us]) >= requests * share && seen)
            return us;
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: heads PORT CONNECTIONS SECONDS REQUEST\n");
        return 2;
    }
    int connections = atoi(argv[2]), set = epoll_create1(0), one = 1;
    size_t length = strlen(argv[4]);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct connection *all = calloc(connections, sizeof *all);
    long long begin = now_us(), end = begin + atoi(argv[3]) * 1000000LL, now;

    for (int i = 0; i < connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        all[i].socket = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].socket, (struct sockaddr *)&server, sizeof server) != 0) {
            perror("connect");
            return 1;
        }
        setsockopt(all[i].socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_ctl(set, EPOLL_CTL_ADD, all[i].socket, &event);
        ask(&all[i], argv[4], length);
    }
    while ((now = now_us()) < end && read_errors + write_errors < connections) {
        struct epoll_event ready[256];
        int count = epoll_wait(set, ready, 256, 100);
        for (int i = 0; i < count; i++)
            if (received(ready[i].data.ptr))
                ask(ready[i].data.ptr, argv[4], length);
    }
    printf("{\"requests\": %ld, \"duration_us\": %lld, \"bytes\": %ld, \"p50_us\": %ld, "
           "\"p99_us\": %ld, \"connect\": 0, \"read\": %ld, \"write\": %ld, \"timeout\": 0, "
           "\"status\": %ld}\n",
           requests, now - begin, bytes, percentile(0.5), percentile(0.99), read_errors,
           write_errors, status_errors);
    return 0;
}
