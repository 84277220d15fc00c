/* Ask an HTTP server the same thing over many connections and measure how long the answers take: the load of `gateway.py`.
 *
 *   load port=N connections=N request=FILE expect=TEXT [events=N] [seconds=S | requests=N] [warm=S] [least=N]
 *        [rate=R | ramp=S]
 *
 * FILE holds one whole request. Closed loop: each connection asks again as soon as it was answered. With `rate` open
 * loop: requests are due R times a second whatever the server does, and time counts from when a request was due, so that
 * a slow answer also counts for those who wait behind it. With `ramp` the connections begin one after the other
 * within S seconds, so that their streams are out of step. Answers within the first `warm` seconds do not count; it ends
 * after `seconds`, though not before `least` answers, or after `requests` answers, and waits for those on their way.
 *
 * Every answer must have status 200 and TEXT in its body, and "@nanoseconds" exactly `events` times, each the monotonic
 * clock when the upstream sent it; the first one that has not ends the program with exit code 1. All times are kept, so
 * percentiles are exact. One thread; one JSON object on standard output.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MOST_HEAD = 32768, MOST_FOUND = 256, DRAIN_S = 90 };
enum chunk_part { SIZE, DATA, DATA_END, TRAILER };

struct times {
  int64_t *values;
  size_t count, room;
};

struct buffer {
  char *bytes;
  size_t size, room;
};

struct connection {
  int fd, is_busy, is_seen, is_chunked, closes, events;
  int64_t due;
  size_t sent, head, at, scanned;
  int64_t left;
  enum chunk_part part;
  struct buffer raw, body;
};

static int port, num_connections, num_events;
static char *expected, *request;
static size_t request_size;
static double seconds = 3, warm_s, rate, ramp_s;
static int64_t most_requests, least_answers;

static int epoll_fd;
static struct connection *all, **idle; /* idle: a ring, so that all connections take turns */
static size_t idle_first, num_idle;
static struct times whole, first_bytes, event_delays;
static int64_t started, answered, measured, seen_events, reconnects, begin_ns;

static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void keep(struct times *times, int64_t value) {
  if (times->count == times->room) {
    times->room = times->room * 2 + 65536;
    times->values = realloc(times->values, times->room * sizeof *times->values);
    if (!times->values) fail("out of memory");
  }
  times->values[times->count++] = value;
}

static void reserve(struct buffer *buffer, size_t more) {
  if (buffer->room - buffer->size >= more + 1) return;
  buffer->room = (buffer->size + more) * 2;
  buffer->bytes = realloc(buffer->bytes, buffer->room);
  if (!buffer->bytes) fail("out of memory");
}

static void watch(struct connection *c, int operation, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  epoll_ctl(epoll_fd, operation, c->fd, &event);
}

static void dial(struct connection *c) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int on = 1;
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) fail("cannot connect: %s", strerror(errno));
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static void dial_again(struct connection *c) {
  close(c->fd);
  dial(c);
  reconnects++;
}

static void push_idle(struct connection *c) { idle[(idle_first + num_idle++) % num_connections] = c; }

static struct connection *pop_idle(void) {
  struct connection *c = idle[idle_first];
  idle_first = (idle_first + 1) % num_connections;
  num_idle--;
  return c;
}

static void send_rest(struct connection *c) {
  int was_partial = c->sent > 0;
  while (c->sent < request_size) {
    ssize_t sent = send(c->fd, request + c->sent, request_size - c->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) {
      watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
      return;
    }
    if (sent < 0) fail("cannot send: %s", strerror(errno));
    c->sent += sent;
  }
  if (was_partial) watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static void ask(struct connection *c, int64_t due) {
  c->is_busy = 1;
  c->is_seen = c->is_chunked = c->closes = c->events = 0;
  c->sent = c->head = c->at = c->scanned = c->raw.size = c->body.size = 0;
  c->part = SIZE;
  c->due = due;
  started++;
  send_rest(c);
}

/* Read the head once it is there; returns whether it is. */
static int read_head(struct connection *c) {
  char *end = memmem(c->raw.bytes, c->raw.size, "\r\n\r\n", 4);
  if (!end) {
    if (c->raw.size > MOST_HEAD) fail("the head of an answer is too large");
    return 0;
  }
  c->head = c->at = end + 4 - c->raw.bytes;
  c->left = -1;
  int status = c->raw.size > 12 ? atoi(c->raw.bytes + 9) : 0;
  for (char *line = c->raw.bytes; line < end; line = (char *)memmem(line, end + 2 - line, "\r\n", 2) + 2) {
    if (!strncasecmp(line, "content-length:", 15)) c->left = atoll(line + 15);
    if (!strncasecmp(line, "transfer-encoding: chunked", 26)) c->is_chunked = 1;
    if (!strncasecmp(line, "connection: close", 17)) c->closes = 1;
  }
  if (status != 200) fail("status %d: %.600s", status, c->raw.bytes);
  if (c->left < 0 && !c->is_chunked) fail("an answer without a length: %.300s", c->raw.bytes);
  return 1;
}

static void take(struct connection *c, size_t most) {
  size_t size = c->raw.size - c->at;
  if (size > most) size = most;
  reserve(&c->body, size);
  memcpy(c->body.bytes + c->body.size, c->raw.bytes + c->at, size);
  c->body.size += size;
  c->at += size;
  c->left -= size;
}

/* Move what was received into the body; returns whether that is the end of the answer. */
static int decode(struct connection *c) {
  if (!c->is_chunked) {
    take(c, c->left);
    return c->left == 0;
  }
  while (c->at < c->raw.size) {
    if (c->part == DATA) {
      take(c, c->left);
      if (!c->left) c->part = DATA_END;
      continue;
    }
    char *line = c->raw.bytes + c->at, *end = memmem(line, c->raw.size - c->at, "\r\n", 2);
    if (!end) return 0;
    c->at += end + 2 - line;
    if (c->part == DATA_END) c->part = SIZE;
    else if (c->part == TRAILER && end == line) return 1;
    else if (c->part == SIZE) {
      c->left = strtoll(line, NULL, 16);
      c->part = c->left ? DATA : TRAILER;
    }
  }
  return 0;
}

/* Find the events that have come since the last look. */
static void scan(struct connection *c, int64_t now, int counts) {
  c->body.bytes[c->body.size] = 0;
  for (;;) {
    char *mark = memchr(c->body.bytes + c->scanned, '@', c->body.size - c->scanned);
    if (!mark) break;
    char *end = mark + 1;
    while (isdigit(*end)) end++;
    if (!*end) {
      c->scanned = mark - c->body.bytes;
      return;
    }
    c->scanned = end - c->body.bytes;
    if (end == mark + 1) continue;
    c->events++;
    seen_events++;
    if (counts && now >= begin_ns) keep(&event_delays, now - strtoll(mark + 1, NULL, 10));
  }
  c->scanned = c->body.size;
}

static void finish(struct connection *c, int64_t now, int counts) {
  c->body.bytes[c->body.size] = 0;
  if (!memmem(c->body.bytes, c->body.size, expected, strlen(expected)) || c->events != num_events)
    fail("a wrong answer, with %d events: %.900s", c->events, c->body.bytes);
  answered++;
  if (counts && now >= begin_ns) {
    keep(&whole, now - c->due);
    measured++;
  }
  c->is_busy = 0;
  if (c->closes) dial_again(c);
  push_idle(c);
}

static void receive(struct connection *c, int counts) {
  reserve(&c->raw, 65536);
  ssize_t got = recv(c->fd, c->raw.bytes + c->raw.size, 65536, 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    if (c->is_busy) fail("the connection was closed before the answer was whole");
    dial_again(c);
    return;
  }
  int64_t now = now_ns();
  c->raw.size += got;
  c->raw.bytes[c->raw.size] = 0;
  if (!c->head && !read_head(c)) return;
  if (!c->is_seen && now >= begin_ns) keep(&first_bytes, now - c->due);
  c->is_seen = 1;
  reserve(&c->body, 1);
  int is_whole = decode(c);
  if (num_events) scan(c, now, counts);
  if (c->at == c->raw.size) c->at = c->raw.size = 0;
  if (is_whole) finish(c, now, counts);
}

static int by_value(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static void print_times(const char *name, struct times *times) {
  static const double shares[] = {0.5, 0.9, 0.95, 0.99, 0.999, 1};
  static const char *names[] = {"p50", "p90", "p95", "p99", "p999", "max"};
  if (times->count) qsort(times->values, times->count, sizeof *times->values, by_value);
  printf(",\"%s\":{\"count\":%zu", name, times->count);
  for (int i = 0; times->count && i < 6; i++) {
    size_t rank = (size_t)(shares[i] * times->count);
    if (rank >= times->count) rank = times->count - 1;
    printf(",\"%s\":%.1f", names[i], times->values[rank] / 1e3);
  }
  printf("}");
}

static void read_words(int given, char **words) {
  for (int i = 1; i < given; i++) {
    char *value = strchr(words[i], '=');
    if (!value) fail("not key=value: %s", words[i]);
    *value++ = 0;
    if (!strcmp(words[i], "port")) port = atoi(value);
    else if (!strcmp(words[i], "connections")) num_connections = atoi(value);
    else if (!strcmp(words[i], "events")) num_events = atoi(value);
    else if (!strcmp(words[i], "expect")) expected = value;
    else if (!strcmp(words[i], "seconds")) seconds = atof(value);
    else if (!strcmp(words[i], "warm")) warm_s = atof(value);
    else if (!strcmp(words[i], "rate")) rate = atof(value);
    else if (!strcmp(words[i], "ramp")) ramp_s = atof(value);
    else if (!strcmp(words[i], "requests")) most_requests = atoll(value);
    else if (!strcmp(words[i], "least")) least_answers = atoll(value);
    else if (!strcmp(words[i], "request")) {
      FILE *file = fopen(value, "rb");
      if (!file) fail("cannot read %s", value);
      request = malloc(1 << 24);
      request_size = fread(request, 1, 1 << 24, file);
      fclose(file);
    } else fail("unknown word: %s", words[i]);
  }
  if (!port || num_connections < 1 || !request_size || !expected) fail("port, connections, request and expect are needed");
}

int main(int given, char **words) {
  read_words(given, words);
  epoll_fd = epoll_create1(0);
  int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct epoll_event ticking = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &ticking);
  all = calloc(num_connections, sizeof *all);
  idle = calloc(num_connections, sizeof *idle);
  for (int i = 0; i < num_connections; i++) {
    dial(&all[i]);
    push_idle(&all[i]);
  }
  int64_t now = now_ns(), next = now, end_ns = 0;
  int64_t period = rate ? (int64_t)(1e9 / rate) : (int64_t)(1e9 * ramp_s / num_connections);
  begin_ns = now + (int64_t)(warm_s * 1e9);
  for (;;) {
    now = now_ns();
    int is_over = most_requests ? started >= most_requests
                                : now >= begin_ns + (int64_t)(seconds * 1e9) && measured >= least_answers;
    if (is_over && !end_ns && !most_requests) end_ns = now;
    if (is_over && num_idle == (size_t)num_connections) break;
    if (end_ns && now > end_ns + DRAIN_S * 1000000000LL) fail("answers did not come within %d s", DRAIN_S);
    int is_paced = rate || started < num_connections;
    while (!is_over && num_idle && (!is_paced || next <= now)) {
      ask(pop_idle(), is_paced ? next : now);
      is_paced = rate || started < num_connections;
      next += period;
      if (most_requests && started >= most_requests) is_over = 1;
    }
    if (is_paced && num_idle && !is_over) {
      struct itimerspec when = {.it_value = {.tv_sec = next / 1000000000LL, .tv_nsec = next % 1000000000LL}};
      timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    }
    struct epoll_event found[MOST_FOUND];
    int number = epoll_wait(epoll_fd, found, MOST_FOUND, 20);
    for (int i = 0; i < number; i++) {
      struct connection *c = found[i].data.ptr;
      uint64_t expirations;
      if (!c) {
        if (read(timer_fd, &expirations, sizeof expirations) < 0) continue;
      } else {
        if (found[i].events & EPOLLOUT) send_rest(c);
        if (found[i].events & ~EPOLLOUT) receive(c, !end_ns);
      }
    }
  }
  if (!end_ns) end_ns = now;
  int64_t late = rate && end_ns > next ? (end_ns - next) / period : 0;
  printf("{\"answered\":%lld,\"measured\":%lld,\"seconds\":%.6f,\"events\":%lld,\"late\":%lld,\"reconnects\":%lld",
         (long long)answered, (long long)measured, (end_ns - begin_ns) / 1e9, (long long)seen_events, (long long)late,
         (long long)reconnects);
  print_times("whole_us", &whole);
  print_times("first_byte_us", &first_bytes);
  print_times("event_us", &event_delays);
  printf("}\n");
  return 0;
}
