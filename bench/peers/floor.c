// The floor: a server that only calls send() for each client of a room, with a frame that is made once. It has no
// authentication, no broker, no validation, and combines no frames. So the kernel causes the whole cost of a delivery.
//
//   floor PORT PUBLISH_PORT      publishers send lines "r<room> <event>\n"; a client sends {"subscribe":"r<room>"}
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_FILES 131072
#define MOST_ROOMS 65536

enum kind { NOTHING, CLIENT_PORT, PUBLISH_PORT, HANDSHAKE, CLIENT, PUBLISHER };
static enum kind kinds[MOST_FILES];
static struct { int *clients, count, size; } rooms[MOST_ROOMS];
static int epoll;

static void watch(int fd, enum kind kind) {
  struct epoll_event interest = {.events = EPOLLIN, .data.fd = fd};
  kinds[fd] = kind;
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &interest);
}

static void listen_on(int port, enum kind kind) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (void *)&at, sizeof at) || listen(fd, 4096)) {
    perror("listen");
    exit(1);
  }
  watch(fd, kind);
}

static void send_all(int fd, const char *from, size_t length) {
  while (length) {
    ssize_t sent = send(fd, from, length, MSG_NOSIGNAL);
    if (sent < 0) {
      struct pollfd room = {fd, POLLOUT, 0};
      if (errno != EAGAIN || poll(&room, 1, 1000) <= 0) return;
      continue;
    }
    from += sent, length -= sent;
  }
}

static size_t make_frame(char *frame, const char *text, size_t length) {
  size_t head = length < 126 ? 2 : 4;
  frame[0] = (char)0x81;
  frame[1] = length < 126 ? length : 126;
  if (head == 4) frame[2] = length >> 8, frame[3] = length;
  memcpy(frame + head, text, length);
  return head + length;
}

static void publish(int room, const char *event, size_t length) {
  static char frame[70000];
  size_t size = make_frame(frame, event, length);
  for (int i = 0; i < rooms[room].count; i++) send_all(rooms[room].clients[i], frame, size);
}

static void read_publisher(int fd) {
  static char text[1 << 22];
  static size_t length;
  ssize_t got = recv(fd, text + length, sizeof text - length, 0);
  if (got <= 0) {
    close(fd);
    length = 0;
    return;
  }
  length += got;
  char *from = text, *to = text + length, *line_end;
  for (; (line_end = memchr(from, '\n', to - from)); from = line_end + 1) {
    char *space = memchr(from, ' ', line_end - from);
    if (space) publish(atoi(from + 1), space + 1, line_end - space - 1);
  }
  length = to - from;
  memmove(text, from, length);
}

static void leave(int fd) {
  for (int room = 0; room < MOST_ROOMS; room++)
    for (int i = 0; i < rooms[room].count; i++)
      if (rooms[room].clients[i] == fd) rooms[room].clients[i] = rooms[room].clients[--rooms[room].count];
  close(fd);
}

static void join(int fd, const char *text) {
  const char *name = strstr(text, ":\"r");
  int room = name ? atoi(name + 3) : 0;
  if (rooms[room].count == rooms[room].size) {
    rooms[room].size = rooms[room].size * 2 + 16;
    rooms[room].clients = realloc(rooms[room].clients, rooms[room].size * sizeof(int));
  }
  rooms[room].clients[rooms[room].count++] = fd;
}

static void read_client(int fd) {
  static char text[1 << 16], answer[64];
  ssize_t length = recv(fd, text, sizeof text, 0);
  char *from = text, *to = text + length;
  if (length <= 0) {
    leave(fd);
    return;
  }
  if (kinds[fd] == HANDSHAKE) {  // the load client's key is always the same, and so is its answer
    static const char accept[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    from = memmem(text, length, "\r\n\r\n", 4);
    if (!from) return;
    from += 4;
    send_all(fd, accept, sizeof accept - 1);
    kinds[fd] = CLIENT;
  }
  while (to - from > 6) {  // short masked frames: what the load client sends
    size_t size = from[1] & 127;
    char said[128] = "";
    for (size_t i = 0; i < size && i < sizeof said - 1; i++) said[i] = from[6 + i] ^ from[2 + i % 4];
    if ((from[0] & 15) == 1) {
      join(fd, said);
      send_all(fd, answer, make_frame(answer, "{\"ok\":1}", 8));
    }
    from += 6 + size;
  }
}

int main(int count, char **words) {
  static struct epoll_event events[1024];
  if (count != 3) return 2;
  epoll = epoll_create1(0);
  listen_on(atoi(words[1]), CLIENT_PORT);
  listen_on(atoi(words[2]), PUBLISH_PORT);
  puts("ready");
  fflush(stdout);
  for (;;) {
    int ready = epoll_wait(epoll, events, 1024, -1);
    for (int i = 0; i < ready; i++) {
      int fd = events[i].data.fd, taken, on = 1;
      enum kind kind = kinds[fd];
      if (kind == PUBLISHER) read_publisher(fd);
      else if (kind == HANDSHAKE || kind == CLIENT) read_client(fd);
      else while ((taken = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(taken, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(taken, kind == CLIENT_PORT ? HANDSHAKE : PUBLISHER);
      }
    }
  }
}
