/* The floor: what the kernel alone costs. Over level-triggered epoll it receives whatever comes
 * and sends one fixed answer for it. It parses nothing: it is a bound, not a server.
 *
 *     floor PORT BODY      listens on 127.0.0.1 and answers 200 with BODY until it is killed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int die(const char *what) {
    perror(what);
    return 1;
}

static int listen_on(unsigned short port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0
        || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1024) < 0)
        return -1;
    return fd;
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        close(fd);
}

static void accept_all(int epoll, int listener) {
    int on = 1, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(epoll, fd);
    }
}

int main(int argc, char **argv) {
    static char answer[4096], request[65536];
    struct epoll_event events[256];
    if (argc != 3) {
        fprintf(stderr, "usage: floor PORT BODY\n");
        return 2;
    }
    int length = snprintf(answer, sizeof answer,
        "HTTP/1.1 200 OK\r\nServer: floor\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        "Content-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s", strlen(argv[2]), argv[2]);
    if (length < 0 || (size_t)length >= sizeof answer) {
        fprintf(stderr, "floor: BODY is too long\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on((unsigned short)atoi(argv[1])), epoll = epoll_create1(0);
    if (listener < 0 || epoll < 0)
        return die("floor");
    watch(epoll, listener);
    for (;;) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(epoll, listener);
            else if (recv(fd, request, sizeof request, 0) <= 0
                     || send(fd, answer, (size_t)length, 0) != length)
                close(fd);
        }
    }
}
