// load: many clients (WebSocket, server-sent events or long polls) and one publisher in a thread, for `make bench`. Linux, epoll, no dependencies.
//
//   cc -O2 -o load bench/load.c
//   load --port 8080 --path /ws --clients 1000 --step '0:{"type":"connect",…}' …   (the list is at `usage`)
//
// It does not parse JSON. A client sends its `--step` texts and counts what comes back. Each `--stamp` in a message is an
// event, and a message without a stamp is an answer. After the stamp comes the time at which this process published the
// event, in ns of CLOCK_MONOTONIC. So there is one clock and no round trip.
//
// Commands come on stdin, one per line. Each is answered with one line of JSON on stdout. Sockets stay open in between:
//
//   connect COUNT AT_ONCE ROUNDS   open more clients, AT_ONCE handshakes at a time, until each has had its answers;
//                                  refused clients try again, up to ROUNDS times
//   window MS WARM SECONDS         closed loop: the highest rate of deliveries at a mean latency of MS ms
//   rate PER_SECOND WARM SECONDS   open loop: a fixed rate of deliveries, whatever the server does
//   publish COUNT ON_THE_WAY       publish with at most so many unacknowledged; do not wait for deliveries
//   expect DELIVERIES SECONDS      wait until so many deliveries have come since the start
//   idle SECONDS                   keep the connections; count pings and clients that receive nothing
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define MS 1000000ull
#define MOST_STEPS 8
#define MOST_WATCHED 16
// Clients of one source address. There are 28,232 ephemeral ports to one server port. The kernel tries the even ones
// first, so beyond half of them each connect takes milliseconds.
#define PER_SOURCE 12000

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * SECOND + t.tv_nsec;
}

static void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  exit(2);
}

// ---- Latencies: 64 steps for each power of two, so within 1.6 %.

typedef struct { uint64_t count, sum, max, steps[64 * 64]; } histogram;

static inline void note(histogram *h, uint64_t ns) {
  unsigned step = ns;
  if (ns >= 64) {
    int exponent = 63 - __builtin_clzll(ns);
    step = (exponent - 5) * 64 + ((ns >> (exponent - 6)) & 63);
  }
  h->steps[step]++;
  h->count++;
  h->sum += ns;
  if (ns > h->max) h->max = ns;
}

static double quantile_ms(const histogram *h, double q) {
  uint64_t seen = 0, wanted = q * h->count;
  for (unsigned step = 0; h->count && step < 64 * 64; step++) {
    seen += h->steps[step];
    if (seen <= wanted) continue;
    if (step < 64) return step / (double)MS;
    return (64 + step % 64 + 1) * (double)(1ull << (step / 64 - 1)) / MS;
  }
  return h->max / (double)MS;
}

static double mean_ms(const histogram *h) { return h->count ? h->sum / (double)h->count / MS : 0; }

static void print_latency(const histogram *h) {
  printf("\"latency_ms\":{\"mean\":%.3f,\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f}", mean_ms(h), quantile_ms(h, .5),
         quantile_ms(h, .99), h->max / (double)MS);
}

// ---- Options.

static const char *host = "127.0.0.1", *path = "/ws", *room_name = "r%d", *stamp = "\"t\":\"", *refused = NULL;
static const char *publish_to = NULL, *subject = "%s", *event_text = "{\"t\":\"{t}\"}", *ping = NULL, *pong = NULL;
static char headers[4096], answer_event[128];
static int port, client_limit = 1000, rooms = 1, joins = 1, wanted_answers = 1, source = 0, unheard = 0;
static bool with_acks = false;
static enum { WEBSOCKET, STREAM, POLLS } carrier;
static struct { int after; const char *text; } steps[MOST_STEPS];
static int step_count;
static struct { char name[16]; int pid; } watched[MOST_WATCHED];
static int watched_count;
static char **tokens;
static int token_count;

// ---- Clients.

enum state { CONNECTING, UPGRADING, OPEN, READY, GONE };
typedef struct {
  int fd, number, answers;
  enum state state;
  uint64_t since, heard;  // when it was started; when data last came
  uint8_t *rest;          // the beginning of an incomplete frame
  char cursor[64];        // of the last answer to a poll
  uint32_t rest_length, rest_size;
} client;

static client *clients;
static int epoll, begun, connecting, ready, gone, failed;
static int *members;  // ready clients by room
static uint64_t deliveries, messages, reads, bytes, pings, answers;
static uint64_t published, expected, acks, nacks;  // expected: the deliveries of all published events
static histogram handshakes, latencies, recent;

static int room_of(const client *c, int join) { return (c->number + join * (rooms / joins)) % rooms; }

static void end(client *c, bool is_failure) {
  if (c->state == GONE) return;
  if (c->state == READY) {
    ready--;
    for (int join = 0; join < joins; join++) members[room_of(c, join)]--;
  } else connecting--;
  c->state = GONE;
  gone++;
  failed += is_failure;
  close(c->fd);
  free(c->rest);
  c->rest = NULL;
}

static void send_frame(client *c, int opcode, const char *text, size_t length) {
  static uint8_t frame[70000];
  static uint32_t key = 0x9e3779b9;
  size_t head = 2;
  frame[0] = 0x80 | opcode;
  if (length < 126) frame[1] = 0x80 | length;
  else if (length < 65536) {
    frame[1] = 0x80 | 126, frame[2] = length >> 8, frame[3] = length;
    head = 4;
  } else die("a message of %zu bytes is too long", length);
  key ^= key << 13, key ^= key >> 17, key ^= key << 5;
  memcpy(frame + head, &key, 4);
  for (size_t i = 0; i < length; i++) frame[head + 4 + i] = text[i] ^ frame[head + i % 4];
  length += head + 4;
  if (send(c->fd, frame, length, MSG_NOSIGNAL) != (ssize_t)length) end(c, true);
}

// Return the text of a step with {i} (client), {token}, {room} (of one join) and {rooms} (the inside of a JSON list) filled in.
static size_t fill(char *out, size_t size, const char *text, const client *c, int join) {
  size_t length = 0;
  for (; *text; ) {
    char part[4096];
    size_t skip = 1;
    part[0] = *text, part[1] = 0;
    if (!strncmp(text, "{i}", 3)) skip = 3, snprintf(part, sizeof part, "%d", c->number);
    else if (!strncmp(text, "{cursor}", 8)) skip = 8, snprintf(part, sizeof part, "%s", c->cursor);
    else if (!strncmp(text, "{token}", 7)) skip = 7, snprintf(part, sizeof part, "%s", tokens[c->number % token_count]);
    else if (!strncmp(text, "{room}", 6)) skip = 6, snprintf(part, sizeof part, room_name, room_of(c, join));
    else if (!strncmp(text, "{rooms}", 7)) {
      skip = 7;
      for (int i = 0, used = 0; i < joins; i++) {
        part[used++] = i ? ',' : ' ', part[used++] = '"';
        used += snprintf(part + used, sizeof part - used - 2, room_name, room_of(c, i));
        part[used++] = '"', part[used] = 0;
      }
    }
    size_t part_length = strlen(part);
    if (length + part_length >= size) die("the text of a step is too long: %.60s", text);
    memcpy(out + length, part, part_length + 1);
    length += part_length, text += skip;
  }
  return length;
}

// Send the request of a client, which is an upgrade, the start of a stream, or the next poll.
static void send_request(client *c) {
  static const char handshake[] = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                  "Sec-WebSocket-Version: 13\r\n";
  char request[32768], target[8192], own[8192];
  fill(target, sizeof target, path, c, 0);
  fill(own, sizeof own, headers, c, 0);
  // HTTP/1.0 for a stream, so that it is not sent in chunks.
  int length = snprintf(request, sizeof request, "GET %s HTTP/1.%d\r\nHost: %s:%d\r\n%s%s\r\n", target,
                        carrier != STREAM, host, port, carrier == WEBSOCKET ? handshake : "", own);
  if (send(c->fd, request, length, MSG_NOSIGNAL) != length) end(c, true);
}

// Send the steps that are due after this number of answers, and mark the client as ready after the last one.
static void go_on(client *c) {
  char text[16384];
  for (int i = 0; i < step_count; i++) {
    if (steps[i].after != c->answers) continue;
    int times = strstr(steps[i].text, "{room}") ? joins : 1;
    for (int join = 0; join < times && c->state != GONE; join++)
      send_frame(c, 1, text, fill(text, sizeof text, steps[i].text, c, join));
  }
  if (c->state != OPEN || c->answers < wanted_answers) return;
  c->state = READY;
  connecting--, ready++;
  for (int join = 0; join < joins; join++) members[room_of(c, join)]++;
  note(&handshakes, now() - c->since);
}

// Count the events in a message. The stamp is mostly where it was in the previous message, so look there first.
static int count_events(const uint8_t *text, size_t length, uint64_t at) {
  static size_t guess, stamp_length;
  const uint8_t *end_ = text + length, *from = text;
  int found = 0;
  if (!stamp_length) stamp_length = strlen(stamp);
  if (guess + stamp_length < length && !memcmp(text + guess, stamp, stamp_length)) from = text + guess;
  while ((from = memmem(from, end_ - from, stamp, stamp_length))) {
    if (!found++) guess = from - text;
    from += stamp_length;
    uint64_t sent = 0;
    while (from < end_ && *from >= '0' && *from <= '9') sent = sent * 10 + (*from++ - '0');
    if (sent > at) continue;
    note(&latencies, at - sent);
    note(&recent, at - sent);
  }
  return found;
}

static void take_message(client *c, int opcode, const uint8_t *text, size_t length, uint64_t at) {
  if (opcode == 9) {
    pings++;
    send_frame(c, 10, (const char *)text, length);
  } else if (opcode == 8) {
    if (failed < 3 && length >= 2)
      fprintf(stderr, "client %d: closed with %d %.*s\n", c->number, text[0] << 8 | text[1], (int)length - 2, text + 2);
    end(c, true);
  } else if (opcode <= 2) {
    int events = c->state == READY || c->answers ? count_events(text, length, at) : 0;
    if (events) {
      deliveries += events, messages++;
    } else if (ping && length == strlen(ping) && !memcmp(text, ping, length)) {
      pings++;
      send_frame(c, 1, pong, strlen(pong));
    } else if (refused && memmem(text, length, refused, strlen(refused))) {
      if (failed < 3) fprintf(stderr, "client %d: refused: %.*s\n", c->number, (int)(length < 600 ? length : 600), text);
      end(c, true);
    } else {
      answers++, c->answers++;
      go_on(c);
    }
  }
}

static const uint8_t *take_upgrade(client *c, const uint8_t *from, const uint8_t *to) {
  const uint8_t *head_end = memmem(from, to - from, "\r\n\r\n", 4);
  if (!head_end) return from;
  if (memcmp(from + 8, carrier == STREAM ? " 200" : " 101", 4)) {
    if (failed < 3) fprintf(stderr, "client %d: no upgrade: %.*s\n", c->number, (int)(to - from), from);
    end(c, true);
    return from;
  }
  c->state = OPEN;
  go_on(c);
  return head_end + 4;
}

static const uint8_t *take_frames(client *c, const uint8_t *from, const uint8_t *to, uint64_t at) {
  while (to - from >= 2 && c->state != GONE) {
    size_t length = from[1] & 127, head = 2;
    if (length == 126) head = 4;
    if (length == 127) head = 10;
    if ((size_t)(to - from) < head) break;
    if (head > 2) length = 0;
    for (size_t i = 2; i < head; i++) length = length << 8 | from[i];
    if ((size_t)(to - from) < head + length) break;
    take_message(c, from[0] & 15, from + head, length, at);
    from += head + length;
  }
  return from;
}

// Server-sent events end with an empty line. Comments have no data.
static const uint8_t *take_stream(client *c, const uint8_t *from, const uint8_t *to, uint64_t at) {
  const uint8_t *event_end;
  while (c->state != GONE && (event_end = memmem(from, to - from, "\n\n", 2))) {
    if (memmem(from, event_end - from, "data:", 5)) take_message(c, 1, from, event_end - from, at);
    from = event_end + 2;
  }
  return from;
}

// An answer to a poll has its length in its head, and its cursor at its end. The next poll follows at once.
static const uint8_t *take_answer(client *c, const uint8_t *from, const uint8_t *to, uint64_t at) {
  static const char length_name[] = "Content-Length: ", cursor_name[] = "\"cursor\":\"";
  const uint8_t *body = memmem(from, to - from, "\r\n\r\n", 4), *found = NULL, *next;
  if (!body) return from;
  body += 4;
  const char *length_at = memmem(from, body - from, length_name, sizeof length_name - 1);
  size_t length = length_at ? strtoul(length_at + sizeof length_name - 1, NULL, 10) : 0;
  if ((size_t)(to - body) < length) return from;
  for (next = body; (next = memmem(next, body + length - next, cursor_name, sizeof cursor_name - 1)); )
    found = next += sizeof cursor_name - 1;
  if (memcmp(from + 8, " 200", 4) || !found) {
    if (failed < 3) fprintf(stderr, "client %d: refused: %.*s\n", c->number, (int)(body + length - from), from);
    end(c, true);
    return from;
  }
  size_t cursor_length = (const uint8_t *)memchr(found, '"', body + length - found) - found;
  snprintf(c->cursor, sizeof c->cursor, "%.*s", (int)cursor_length, found);
  take_message(c, 1, body, length, at);
  if (c->state != GONE) send_request(c);
  return body + length;
}

static void keep_rest(client *c, const uint8_t *from, size_t length) {
  if (length > c->rest_size) {
    c->rest_size = length + 512;
    c->rest = realloc(c->rest, c->rest_size);
  } else if (!length && c->rest) {
    free(c->rest);
    c->rest = NULL, c->rest_size = 0;
  }
  if (length) memcpy(c->rest, from, length);
  c->rest_length = length;
}

static void read_client(client *c) {
  static uint8_t buffer[4 << 20];
  if (c->rest_length) memcpy(buffer, c->rest, c->rest_length);
  ssize_t got = recv(c->fd, buffer + c->rest_length, sizeof buffer - c->rest_length, 0);
  if (got <= 0) {
    if (got == 0 || errno != EAGAIN) end(c, true);
    return;
  }
  reads++, bytes += got;
  c->heard = now();
  const uint8_t *from = buffer, *to = buffer + c->rest_length + got;
  if (c->state == UPGRADING) from = take_upgrade(c, from, to);
  if (c->state >= OPEN && c->state != GONE) {
    if (carrier == WEBSOCKET) from = take_frames(c, from, to, c->heard);
    else if (carrier == STREAM) from = take_stream(c, from, to, c->heard);
    else from = take_answer(c, from, to, c->heard);
  }
  if (c->state != GONE) keep_rest(c, from, to - from);
}

static void begin(client *c) {
  int on = 1;
  struct linger drop = {1, 0};  // reset at the end, so that no port stays in TIME_WAIT
  struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(port)};
  *c = (client){.number = c - clients, .since = now()};
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c->fd < 0) die("socket: %s (raise the limit of open files: ulimit -n)", strerror(errno));
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &drop, sizeof drop);
  if (source || client_limit > PER_SOURCE) {
    setsockopt(c->fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + source + c->number / PER_SOURCE);
    if (bind(c->fd, (void *)&from, sizeof from)) die("bind: %s", strerror(errno));
  }
  inet_pton(AF_INET, host, &to.sin_addr);
  c->state = CONNECTING;
  connecting++;
  struct epoll_event interest = {.events = EPOLLOUT, .data.ptr = c};
  epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &interest);
  if (connect(c->fd, (void *)&to, sizeof to) && errno != EINPROGRESS) end(c, true);
}

static void upgrade(client *c) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error) {
    if (failed < 3) fprintf(stderr, "client %d: %s\n", c->number, strerror(error));
    end(c, true);
    return;
  }
  send_request(c);
  if (c->state == GONE) return;
  c->state = carrier == POLLS ? OPEN : UPGRADING;
  struct epoll_event interest = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &interest);
}

// ---- The publisher: NATS, Redis, lines to a TCP port ("lines") or lines to a program's stdin ("program").

enum kind { NATS, REDIS, LINES };
static enum kind kind;
static int to_broker = -1, from_broker = -1, publisher_pid, next_room;
static char *out;
static size_t out_length, out_size;

static int dial(const char *address) {
  char name[64];
  int number, on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (sscanf(address, "%63[^:]:%d", name, &number) != 2) die("no address: %s", address);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(number)};
  inet_pton(AF_INET, name, &to.sin_addr);
  if (connect(fd, (void *)&to, sizeof to)) die("cannot reach the broker at %s: %s", address, strerror(errno));
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

static void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  out_length += vsnprintf(out + out_length, out_size - out_length, format, arguments);
}

// nats:ADDRESS:USER:PASSWORD. Headers are on, and acknowledgements go to the user's own inbox.
static void dial_nats(const char *address) {
  char where[80], user[64] = "", password[128] = "", info[8192];
  int number;
  if (sscanf(address, "%63[^:]:%d:%63[^:]:%127s", where, &number, user, password) < 2) die("no address: %s", address);
  snprintf(where + strlen(where), 10, ":%d", number);
  to_broker = from_broker = dial(where);
  if (read(from_broker, info, sizeof info) <= 0) die("NATS closed the connection");
  say("CONNECT {\"verbose\":false,\"headers\":true,\"name\":\"load\",\"lang\":\"c\",\"version\":\"1\"");
  if (*user) say(",\"user\":\"%s\",\"pass\":\"%s\"", user, password);
  say("}\r\nSUB _INBOX_%s.load 1\r\n", user);
  snprintf(answer_event, sizeof answer_event, "_INBOX_%s.load", user);
}

static void start_program(const char *command) {
  int in[2], back[2];
  char said[64];
  if (pipe2(in, O_CLOEXEC) || pipe2(back, O_CLOEXEC)) die("pipe: %s", strerror(errno));
  if (!(publisher_pid = fork())) {
    dup2(in[0], 0), dup2(back[1], 1);
    execl("/bin/sh", "sh", "-c", command, NULL);
    _exit(127);
  }
  close(in[0]), close(back[1]);
  to_broker = in[1], from_broker = back[0];
  if (watched_count < MOST_WATCHED) {  // it does not count as a disturbing program
    strcpy(watched[watched_count].name, "publisher");
    watched[watched_count++].pid = publisher_pid;
  }
  if (read(from_broker, said, sizeof said) <= 0) die("the publishing program did not start: %s", command);
}

static void open_publisher(void) {
  if (to_broker >= 0) return;
  if (!publish_to) die("where to publish was not said (--publish)");
  if (!strncmp(publish_to, "nats:", 5)) kind = NATS, dial_nats(publish_to + 5);
  else if (!strncmp(publish_to, "redis:", 6)) kind = REDIS, to_broker = from_broker = dial(publish_to + 6);
  else if (!strncmp(publish_to, "lines:", 6)) kind = LINES, to_broker = from_broker = dial(publish_to + 6);
  else if (!strncmp(publish_to, "program:", 8)) kind = LINES, start_program(publish_to + 8);
  else die("not a way to publish: %s", publish_to);
  fcntl(to_broker, F_SETFL, O_NONBLOCK);
  fcntl(from_broker, F_SETFL, O_NONBLOCK);
  struct epoll_event interest = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(epoll, EPOLL_CTL_ADD, from_broker, &interest);
}

static void flush(void) {
  while (out_length) {
    ssize_t written = write(to_broker, out, out_length);
    if (written <= 0) {
      if (errno != EAGAIN) die("the broker is gone: %s", strerror(errno));
      return;
    }
    memmove(out, out + written, out_length - written);
    out_length -= written;
  }
}

// Count acknowledgements and answer pings. A message that one read cuts in two is handled with the next read.
static void read_broker(void) {
  static char buffer[1 << 18];
  static size_t kept;
  ssize_t got = read(from_broker, buffer + kept, sizeof buffer - kept - 1);
  if (got == 0) die("the broker closed the connection");
  if (got < 0) return;
  if (kind != NATS) return;
  char *from = buffer, *to = buffer + kept + got, *line;
  while ((line = memchr(from, '\n', to - from))) {
    if (!strncmp(from, "PING", 4)) say("PONG\r\n");
    else if (!strncmp(from, "-ERR", 4)) die("NATS says %.*s", (int)(line - from), from);
    else if (memmem(from, line - from, "\"error\":", 8)) {
      if (!nacks++) fprintf(stderr, "not stored: %.*s\n", (int)(line - from), from);
    } else if (memmem(from, line - from, "\"stream\":", 9)) acks++;
    from = line + 1;
  }
  kept = to - from;
  memmove(buffer, from, kept);
}

static void publish(int room) {
  char text[8192], name[64], where[192];
  int length = 0;
  if (out_size - out_length < 65536) out = realloc(out, out_size = out_size * 2 + 65536);
  snprintf(name, sizeof name, room_name, room);
  if (strstr(subject, "%d")) snprintf(where, sizeof where, subject, room);
  else snprintf(where, sizeof where, subject, name);
  for (const char *from = event_text; *from && length < (int)sizeof text - 100; ) {
    if (!strncmp(from, "{t}", 3)) length += sprintf(text + length, "%lu", now()), from += 3;
    else if (!strncmp(from, "{n}", 3)) length += sprintf(text + length, "%lu", published), from += 3;
    else if (!strncmp(from, "{r}", 3)) length += sprintf(text + length, "%d", room), from += 3;
    else text[length++] = *from++;
  }
  if (kind == NATS && with_acks) {  // like our own publishers: with an id and an acknowledgement
    char head[96];
    int head_length = sprintf(head, "NATS/1.0\r\nNats-Msg-Id: %d-%lu\r\n\r\n", getpid(), published);
    say("HPUB %s %s %d %d\r\n%s", where, answer_event, head_length, head_length + length, head);
  } else if (kind == NATS) say("PUB %s %d\r\n", where, length);
  else if (kind == REDIS) say("*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n%s\r\n$%d\r\n", strlen(where), where, length);
  else say("%s ", where);
  memcpy(out + out_length, text, length);
  out_length += length;
  say(kind == LINES ? "\n" : "\r\n");
  published++;
  if (room < rooms) expected += members[room];
}

// Publish the next event with a listener, and with it the requested number of events without one.
static void publish_next(void) {
  while (!members[next_room]) next_room = (next_room + 1) % rooms;
  publish(next_room);
  next_room = (next_room + 1) % rooms;
  for (int i = 0; i < unheard; i++) publish(rooms + i % 1000);
}

// ---- The CPU time of processes.

static double cpu_s(int pid) {
  char name[64], text[1024];
  unsigned long user = 0, kernel = 0;
  snprintf(name, sizeof name, "/proc/%d/stat", pid);
  FILE *file = fopen(name, "r");
  if (!file) return 0;
  text[fread(text, 1, sizeof text - 1, file)] = 0;
  fclose(file);
  char *after = strrchr(text, ')');
  if (after) sscanf(after + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel);
  return (user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

// Return the time of all cores for processes since the machine started, and the time that the hypervisor took. The kernel's
// work for packets belongs to no process; if it is counted separately, it counts as ours.
static double machine_s(void) {
  unsigned long user, nice, kernel, idle_, io, interrupts, soft, stolen;
  FILE *file = fopen("/proc/stat", "r");
  int read = file ? fscanf(file, "cpu %lu %lu %lu %lu %lu %lu %lu %lu", &user, &nice, &kernel, &idle_, &io, &interrupts,
                           &soft, &stolen) : 0;
  if (file) fclose(file);
  return read == 8 ? (user + nice + kernel + stolen) / (double)sysconf(_SC_CLK_TCK) : 0;
}

static double own_cpu_s(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

// ---- Commands.

static bool stdin_ended;

static void turn(uint64_t wait_ns) {
  static struct epoll_event events[2048];
  struct timespec wait = {wait_ns / SECOND, wait_ns % SECOND};
  if (out_length) flush();
  int count = epoll_pwait2(epoll, events, 2048, &wait, NULL);
  for (int i = 0; i < count; i++) {
    client *c = events[i].data.ptr;
    if (!c) read_broker();
    else if (c->state == CONNECTING) upgrade(c);
    else if (c->state != GONE) read_client(c);
  }
}

static void connect_clients(int count, int at_once, int most_rounds) {
  int target = begun + count < client_limit ? begun + count : client_limit;
  int first = begun, before = ready, again = 0, rounds = 0;
  uint64_t start = now(), last = start, done = 0;
  double cpu[MOST_WATCHED];
  memset(&handshakes, 0, sizeof handshakes);
  for (int i = 0; i < watched_count; i++) cpu[i] = cpu_s(watched[i].pid);
  while ((begun < target || connecting) && now() - last < 20 * SECOND) {
    while (begun < target && connecting < at_once) begin(&clients[begun++]);
    turn(20 * MS);
    if (handshakes.count + gone != done) done = handshakes.count + gone, last = now();
    if (begun == target && !connecting && gone && rounds++ < most_rounds) {
      for (uint64_t until = now() + (rounds < 5 ? rounds : 5) * SECOND / 2; now() < until; ) turn(20 * MS);
      for (int i = first; i < target; i++)
        if (clients[i].state == GONE) {
          while (connecting >= at_once) turn(20 * MS);
          begin(&clients[i]);
          gone--, again++;
        }
    }
  }
  double seconds = (last - start) / 1e9;
  printf("{\"ok\":%d,\"again\":%d,\"unanswered\":%d,\"seconds\":%.3f,\"per_second\":%.0f,\"cpu_s\":{", ready - before,
         again, connecting, seconds, (ready - before) / seconds);
  for (int i = 0; i < watched_count; i++)
    printf("%s\"%s\":%.2f", i ? "," : "", watched[i].name, cpu_s(watched[i].pid) - cpu[i]);
  printf("},");
  print_latency(&handshakes);
  printf("}\n");
}

typedef struct { uint64_t deliveries, messages, reads, published, at; double cpu[MOST_WATCHED], own, machine; } figures;

static figures read_figures(void) {
  figures f = {deliveries, messages, reads, published, now(), {0}, own_cpu_s(), machine_s()};
  for (int i = 0; i < watched_count; i++) f.cpu[i] = cpu_s(watched[i].pid);
  return f;
}

static void print_figures(figures a, figures b, uint64_t late) {
  double seconds = (b.at - a.at) / 1e9, count = b.deliveries - a.deliveries, ours = b.own - a.own;
  for (int i = 0; i < watched_count; i++) ours += b.cpu[i] - a.cpu[i];
  printf("\"seconds\":%.3f,\"clients\":%d,\"deliveries\":%.0f,\"deliveries_per_second\":%.0f,\"events_per_second\":%.1f,"
         "\"deliveries_per_read\":%.2f,\"late_ms\":%.2f,\"other_cpu\":%.3f,\"load_cpu\":%.3f,\"cpu_s\":{",
         seconds, ready, count, count / seconds, (b.published - a.published) / seconds,
         count / (b.reads > a.reads ? b.reads - a.reads : 1), late / (double)MS,
         (b.machine - a.machine - ours) / seconds, (b.own - a.own) / seconds);
  for (int i = 0; i < watched_count; i++) printf("%s\"%s\":%.2f", i ? "," : "", watched[i].name, b.cpu[i] - a.cpu[i]);
  printf("}");
}

// Change how much may be under way, so that the mean latency of the last tenth of a second approaches the target.
static double adapt(double on_the_way, double target_ms, double least) {
  double mean = mean_ms(&recent);
  if (recent.count && mean < target_ms * .85) on_the_way *= mean < target_ms * .4 ? 1.5 : 1.12;
  if (recent.count && mean > target_ms * 1.15) on_the_way *= .85;
  recent.count = recent.sum = 0;
  return on_the_way > least ? on_the_way : least;
}

static void drive(double target_ms, double per_second, double warm_s, double seconds) {
  int heard_rooms = 0, gone_before = gone;
  open_publisher();
  if (!ready) die("nobody is connected");
  for (int room = 0; room < rooms; room++) heard_rooms += members[room] > 0;
  double per_event = (double)ready * joins / heard_rooms, on_the_way = per_event > 2000 ? per_event / 2 : 2 * per_event;
  uint64_t start = now(), measured_from = start + warm_s * SECOND, to = measured_from + seconds * SECOND;
  uint64_t adapted = start, due_count = 0, late = 0, base_expected = expected, base_deliveries = deliveries, t;
  uint64_t moved = start, last_deliveries = deliveries;
  figures before = {0};
  bool measuring = false, stalled = false;
  recent.count = recent.sum = 0;
  while ((t = now()) < to && !stalled) {
    uint64_t wait = 5 * MS;
    if (!measuring && t >= measured_from) {
      measuring = true;
      memset(&latencies, 0, sizeof latencies);
      late = 0;
      before = read_figures();
      to = before.at + seconds * SECOND;
    }
    if (per_second > 0) {
      for (;; due_count++) {
        uint64_t due = start + due_count * per_event / per_second * SECOND;
        if (due > t) {
          if (due - t < wait) wait = due - t;
          break;
        }
        if (t - due > late) late = t - due;
        publish_next();
      }
    } else {
      if (t - adapted > 100 * MS) on_the_way = adapt(on_the_way, target_ms, per_event * .1), adapted = t;
      for (int burst = 0; burst < 512 && out_length < 1 << 20; burst++) {
        if ((double)(expected - base_expected) - (double)(deliveries - base_deliveries) >= on_the_way) break;
        if (with_acks && published - acks - nacks > 4096) break;
        publish_next();
      }
    }
    turn(out_length ? MS / 10 : wait);
    if (deliveries != last_deliveries) last_deliveries = deliveries, moved = t;
    stalled = t - moved > 5 * SECOND;
  }
  figures after = read_figures();
  static histogram measured;
  measured = latencies;
  uint64_t waited = now();  // for deliveries that are still under way: anything missing then is lost
  for (moved = waited; deliveries - base_deliveries < expected - base_expected && now() - moved < 3 * SECOND; ) {
    turn(5 * MS);
    if (deliveries != last_deliveries) last_deliveries = deliveries, moved = now();
  }
  printf("{");
  print_figures(before, after, late);
  printf(",\"missing\":%ld,\"stalled\":%s,\"disconnected\":%d,\"not_stored\":%lu,",
         (long)(expected - base_expected) - (long)(deliveries - base_deliveries), stalled ? "true" : "false",
         gone - gone_before, nacks);
  print_latency(&measured);
  printf("}\n");
}

static void publish_many(long count, long on_the_way) {
  open_publisher();
  uint64_t first = published, done = acks + nacks, start = now(), moved = start, t;
  double own = own_cpu_s(), cpu[MOST_WATCHED];
  for (int i = 0; i < watched_count; i++) cpu[i] = cpu_s(watched[i].pid);
  with_acks = true;
  while (acks + nacks - done < (uint64_t)count && (t = now()) - moved < 20 * SECOND) {
    uint64_t acked = acks + nacks;
    for (int burst = 0; burst < 512; burst++) {
      if (published - first >= (uint64_t)count || published - first - (acked - done) >= (uint64_t)on_the_way) break;
      publish(next_room++ % rooms);
    }
    turn(5 * MS);
    if (acks + nacks != acked) moved = t;
  }
  next_room %= rooms;
  double seconds = (now() - start) / 1e9;
  printf("{\"stored\":%lu,\"not_stored\":%lu,\"seconds\":%.3f,\"per_second\":%.0f,\"load_cpu\":%.3f,\"cpu_s\":{",
         acks + nacks - done, nacks, seconds, (acks + nacks - done) / seconds, (own_cpu_s() - own) / seconds);
  for (int i = 0; i < watched_count; i++)
    printf("%s\"%s\":%.2f", i ? "," : "", watched[i].name, cpu_s(watched[i].pid) - cpu[i]);
  printf("}}\n");
}

static void expect(uint64_t wanted, double seconds) {
  uint64_t start = now(), last = start, before = deliveries;
  while (deliveries < wanted && now() < start + seconds * SECOND) {
    turn(5 * MS);
    if (deliveries != before) before = deliveries, last = now();
  }
  printf("{\"deliveries\":%lu,\"missing\":%ld,\"seconds\":%.3f,\"disconnected\":%d}\n", deliveries,
         (long)wanted - (long)deliveries, (last - start) / 1e9, gone);
}

static void idle(double seconds) {
  uint64_t start = now(), end_ = start + seconds * SECOND, t, pings_before = pings, answers_before = answers;
  int silent = 0, gone_before = gone;
  while ((t = now()) < end_) turn(end_ - t < 50 * MS ? end_ - t : 50 * MS);
  for (int i = 0; i < begun; i++) silent += clients[i].state == READY && clients[i].heard < start;
  printf("{\"clients\":%d,\"pings\":%lu,\"messages\":%lu,\"silent\":%d,\"disconnected\":%d}\n", ready,
         pings - pings_before, answers - answers_before, silent, gone - gone_before);
}

static void run(const char *line) {
  double a = 0, b = 0, c = 0;
  char command[16];
  if (sscanf(line, "%15s %lf %lf %lf", command, &a, &b, &c) < 2) die("no command: %s", line);
  if (!strcmp(command, "connect")) connect_clients(a, b > 0 ? b : 64, c);
  else if (!strcmp(command, "window")) drive(a, 0, b, c);
  else if (!strcmp(command, "rate")) drive(0, a, b, c);
  else if (!strcmp(command, "publish")) publish_many(a, b > 0 ? b : 256);
  else if (!strcmp(command, "expect")) expect(a, b);
  else if (!strcmp(command, "idle")) idle(a);
  else die("no such command: %s", line);
  fflush(stdout);
}

// Run the commands that came since the last turn, or wait one turn for a command.
static void take_commands(void) {
  static char text[4096];
  static size_t length;
  ssize_t got = read(0, text + length, sizeof text - length - 1);
  if (got == 0) stdin_ended = true;
  if (got <= 0) {
    turn(5 * MS);
    return;
  }
  length += got;
  for (char *line_end; (line_end = memchr(text, '\n', length)); ) {
    *line_end = 0;
    run(text);
    length -= line_end + 1 - text;
    memmove(text, line_end + 1, length);
  }
}

// ---- Start.

static const char usage[] =
    "load --port PORT [--host ADDRESS] [--path PATH] [--header 'Name: value'] [--clients MOST] [--source N]\n"
    "  --carrier stream | polls   server-sent events, or long polls whose path has {cursor}, instead of a WebSocket\n"
    "  --step N:TEXT     send this after N answers; 0: after the upgrade. {i} {token} {room} {rooms} are filled in\n"
    "                    (as in the path and in headers)\n"
    "  --answers N       a client is ready after N answers (1)\n"
    "  --refused TEXT    an answer that contains this text is a refusal\n"
    "  --ping A=B        answer a message A with B (Engine.IO: 2=3)\n"
    "  --tokens FILE     one token per line; client i uses the i-th\n"
    "  --rooms N --joins K --room NAME%d    each client joins K of N rooms\n"
    "  --stamp TEXT      the text before the time in an event\n"
    "  --event TEXT      an event. {t} {n} {r} (time, number, room) are filled in\n"
    "  --publish nats:HOST:PORT[:USER:PASSWORD] | redis:HOST:PORT | lines:HOST:PORT | program:COMMAND\n"
    "  --subject TEXT    where to publish; %d is the room's number, %s its name\n"
    "  --acks            publish with an id, and count acknowledgements (JetStream)\n"
    "  --unheard K       with each event, publish K more in empty rooms\n"
    "  --source N        connect from 127.0.0.(1+N), and beyond 12,000 clients also from the next address\n"
    "  --watch NAME=PID  report the CPU seconds of this process\n"
    "Commands come on stdin: see the top of bench/load.c.";

static void read_tokens(const char *name) {
  char line[8192];
  FILE *file = fopen(name, "r");
  if (!file) die("%s: %s", name, strerror(errno));
  while (fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    if (token_count % 1024 == 0) tokens = realloc(tokens, (token_count + 1024) * sizeof *tokens);
    tokens[token_count++] = strdup(line);
  }
  fclose(file);
  if (!token_count) die("%s has no tokens", name);
}

static void add_step(const char *text) {
  if (step_count == MOST_STEPS || !strchr(text, ':')) die("not a step, or one too many: %s", text);
  steps[step_count].after = atoi(text);
  steps[step_count++].text = strchr(text, ':') + 1;
}

static void add_watched(const char *text) {
  if (watched_count == MOST_WATCHED || sscanf(text, "%15[^=]=%d", watched[watched_count].name, &watched[watched_count].pid) != 2)
    die("not a process, or one too many: %s", text);
  watched_count++;
}

static void read_arguments(int count, char **words) {
  for (int i = 1; i < count; i++) {
    const char *name = words[i];
    if (!strcmp(name, "--acks")) {
      with_acks = true;
      continue;
    }
    if (i + 1 == count) die("%s", usage);
    char *value = words[++i];
    if (!strcmp(name, "--port")) port = atoi(value);
    else if (!strcmp(name, "--host")) host = value;
    else if (!strcmp(name, "--path")) path = value;
    else if (!strcmp(name, "--header")) snprintf(headers + strlen(headers), sizeof headers - strlen(headers), "%s\r\n", value);
    else if (!strcmp(name, "--clients")) client_limit = atoi(value);
    else if (!strcmp(name, "--source")) source = atoi(value);
    else if (!strcmp(name, "--carrier")) carrier = !strcmp(value, "polls") ? POLLS : STREAM;
    else if (!strcmp(name, "--step")) add_step(value);
    else if (!strcmp(name, "--answers")) wanted_answers = atoi(value);
    else if (!strcmp(name, "--refused")) refused = value;
    else if (!strcmp(name, "--ping")) ping = strtok(value, "="), pong = strtok(NULL, "=");
    else if (!strcmp(name, "--tokens")) read_tokens(value);
    else if (!strcmp(name, "--rooms")) rooms = atoi(value);
    else if (!strcmp(name, "--joins")) joins = atoi(value);
    else if (!strcmp(name, "--room")) room_name = value;
    else if (!strcmp(name, "--stamp")) stamp = value;
    else if (!strcmp(name, "--event")) event_text = value;
    else if (!strcmp(name, "--publish")) publish_to = value;
    else if (!strcmp(name, "--subject")) subject = value;
    else if (!strcmp(name, "--unheard")) unheard = atoi(value);
    else if (!strcmp(name, "--watch")) add_watched(value);
    else die("%s", usage);
  }
  if (!port || client_limit < 1 || joins < 1 || rooms < joins) die("%s", usage);
}

int main(int count, char **words) {
  signal(SIGPIPE, SIG_IGN);
  read_arguments(count, words);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_max < (rlim_t)client_limit + 50)
    die("%d clients need as many open files, and the limit is %lu: raise it (ulimit -Hn)", client_limit, (long)files.rlim_max);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  clients = calloc(client_limit, sizeof *clients);
  members = calloc(rooms, sizeof *members);
  out = malloc(out_size = 1 << 20);
  fcntl(0, F_SETFL, O_NONBLOCK);
  while (!stdin_ended) take_commands();
  if (publisher_pid) {
    close(to_broker);
    kill(publisher_pid, SIGTERM);
    waitpid(publisher_pid, NULL, 0);
  }
  return 0;
}
