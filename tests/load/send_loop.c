/* What the kernel asks for a delivery: a bare loop of send(2) to many TCP sockets on loopback, which another process
 * reads. As in a chat, a message goes to one room of sockets, and the next one comes a moment later.
 *
 * send_loop SOCKETS ROOM BYTES RATE SECONDS prints the CPU microseconds of one send(2).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) { perror(what); exit(1); }

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* The reader: it connects, and reads until the last socket has been closed. */
static void read_all(struct sockaddr_in *address, int count) {
    static char buffer[65536];
    struct epoll_event events[256];
    int epoll = epoll_create1(0), open = count;
    for (int i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)address, sizeof *address)) fail("connect");
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
    while (open > 0) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++)
            if (recv(events[i].data.fd, buffer, sizeof buffer, 0) <= 0) {
                close(events[i].data.fd);
                open--;
            }
    }
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    int count = atoi(argv[1]), room = atoi(argv[2]), size = atoi(argv[3]), yes = 1;
    double rate = atof(argv[4]), length = atof(argv[5]);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t address_size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), *sockets = calloc(count, sizeof *sockets);
    char *frame = calloc(1, size);
    memset(frame, '.', size);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &address_size);
    pid_t reader = fork();
    if (reader == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(listener);
        read_all(&address, count);
    }
    for (int i = 0; i < count; i++) {
        if ((sockets[i] = accept(listener, NULL, NULL)) < 0) fail("accept");
        setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    }
    double begin = seconds(CLOCK_MONOTONIC), used = 0;
    long sent = 0, total = (long)(rate * length);
    for (long message = 0; message < total; message++) {
        double ahead = begin + message / rate - seconds(CLOCK_MONOTONIC);
        if (ahead > 0) usleep(ahead * 1e6);
        double before = seconds(CLOCK_PROCESS_CPUTIME_ID);
        for (int i = 0; i < room; i++, sent++)
            if (send(sockets[(message * room + i) % count], frame, size, 0) != size) fail("send");
        used += seconds(CLOCK_PROCESS_CPUTIME_ID) - before;
    }
    printf("%.4f\n", used / sent * 1e6);
    for (int i = 0; i < count; i++) close(sockets[i]);
    waitpid(reader, NULL, 0);
    return 0;
}
