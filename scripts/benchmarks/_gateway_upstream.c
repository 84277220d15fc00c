/* A server that answers as vLLM does, in as few instructions as possible: the upstream of `gateway.py`.
 *
 *   upstream PORT CHUNKS INTERVAL_US
 *
 * A POST gets one fixed chat completion, once its body was read; when the body asks for a stream, CHUNKS events, one every
 * INTERVAL_US. Each event carries "@" and the nanoseconds of the monotonic clock at which it was sent, so that a
 * client on this machine knows how long it took. GET /v1/models lists one model; any other GET says that all is well.
 * One thread, HTTP/1.1 with keep-alive, requests with a content-length only, no limits: not for other uses.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MOST_EVENTS = 256, MOST_CLIENTS = 65536, OUT_BYTES = 2048 };

#define CHUNK "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"general\",\"choices\":[{\"index\":0,\"delta\":{%s},\"logprobs\":null,\"finish_reason\":%s}]}\n\n"

static const char ANSWER[] =
    "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"general\",\"choices\":[{\"index\":0,"
    "\"message\":{\"role\":\"assistant\",\"content\":\"Your order is on its way and arrives on Monday.\",\"refusal\":null,"
    "\"tool_calls\":[]},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}],\"usage\":{\"prompt_tokens\":20,"
    "\"total_tokens\":31,\"completion_tokens\":11,\"prompt_tokens_details\":null},\"prompt_logprobs\":null}";
static const char MODELS[] =
    "{\"object\":\"list\",\"data\":[{\"id\":\"general\",\"object\":\"model\",\"created\":1,\"owned_by\":\"vllm\","
    "\"root\":\"general\",\"max_model_len\":131072}]}";

struct client {
  int fd, is_closed, is_streaming, left;
  char *in;
  size_t size, room;
  char out[OUT_BYTES];
  size_t out_size;
  int64_t due;
};

static struct client *streaming[MOST_CLIENTS]; /* a ring, ordered by when the next event is due */
static size_t first, count;
static int epoll_fd, timer_fd, chunks;
static int64_t interval_ns;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void push(struct client *client) {
  if (count == MOST_CLIENTS) fail("too many streams");
  streaming[(first + count++) % MOST_CLIENTS] = client;
}

static void set_timer(void) {
  struct itimerspec when = {0};
  if (count) {
    int64_t due = streaming[first]->due;
    when.it_value.tv_sec = due / 1000000000LL;
    when.it_value.tv_nsec = due % 1000000000LL;
  }
  timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void release(struct client *client) {
  free(client->in);
  free(client);
}

static void hang_up(struct client *client) {
  close(client->fd);
  client->is_closed = 1;
  if (!client->is_streaming) release(client);
}

static void answer(struct client *client, const char *body, size_t size) {
  char head[256];
  int length = snprintf(head, sizeof head,
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", size);
  char whole[4096];
  memcpy(whole, head, length);
  memcpy(whole + length, body, size);
  if (send(client->fd, whole, length + size, MSG_NOSIGNAL) < 0) return; /* the client is gone, which epoll tells */
}

/* Add an event to what is to be sent, as a chunk of HTTP. */
static void add_event(struct client *client, const char *delta, const char *finish) {
  char event[512];
  int length = snprintf(event, sizeof event, CHUNK, delta, finish);
  client->out_size += snprintf(client->out + client->out_size, OUT_BYTES - client->out_size, "%x\r\n%s\r\n", length, event);
}

static void flush_out(struct client *client) {
  ssize_t sent = send(client->fd, client->out, client->out_size, MSG_NOSIGNAL);
  if (sent <= 0) return; /* full: the next turn tries again */
  memmove(client->out, client->out + sent, client->out_size - sent);
  client->out_size -= sent;
}

static void begin_stream(struct client *client) {
  client->out_size = snprintf(client->out, OUT_BYTES,
                              "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                              "transfer-encoding: chunked\r\n\r\n");
  add_event(client, "\"role\":\"assistant\",\"content\":\"\"", "null");
  flush_out(client);
  client->is_streaming = 1;
  client->left = chunks;
  client->due = now_ns() + interval_ns;
  push(client);
  set_timer();
}

/* Send the next event of one stream; after the last one, its end. */
static void go_on(struct client *client, int64_t now) {
  if (!client->out_size && client->left) {
    char delta[64];
    snprintf(delta, sizeof delta, "\"content\":\"@%lld \"", (long long)now);
    add_event(client, delta, "null");
    if (!--client->left) {
      add_event(client, "\"content\":\"\"", "\"stop\"");
      client->out_size += snprintf(client->out + client->out_size, OUT_BYTES - client->out_size,
                                   "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    }
  }
  flush_out(client);
}

static void tick(void) {
  int64_t now = now_ns();
  while (count && streaming[first]->due <= now) {
    struct client *client = streaming[first];
    first = (first + 1) % MOST_CLIENTS;
    count--;
    if (client->is_closed) {
      release(client);
      continue;
    }
    go_on(client, now);
    if (!client->left && !client->out_size) {
      client->is_streaming = 0;
      continue;
    }
    client->due += interval_ns;
    if (client->due < now - interval_ns) client->due = now;
    push(client);
    now = now_ns();
  }
  set_timer();
}

/* Answer what has been received, if that is a whole request. */
static void serve(struct client *client) {
  char *end = memmem(client->in, client->size, "\r\n\r\n", 4);
  if (!end) return;
  size_t head = end + 4 - client->in, length = 0;
  for (char *line = client->in; line < end; line = (char *)memmem(line, end + 2 - line, "\r\n", 2) + 2)
    if (!strncasecmp(line, "content-length:", 15)) length = strtoul(line + 15, NULL, 10);
  if (client->size < head + length) return;
  char *body = client->in + head;
  size_t size = length;
  client->size = 0; /* no pipelining */
  if (!strncmp(client->in, "GET /v1/models", 14))
    answer(client, MODELS, sizeof MODELS - 1);
  else if (!strncmp(client->in, "GET ", 4))
    answer(client, "{\"status\":\"ok\"}", 15);
  else if (memmem(body, size, "\"stream\":true", 13) || memmem(body, size, "\"stream\": true", 14))
    begin_stream(client);
  else
    answer(client, ANSWER, sizeof ANSWER - 1);
}

static void receive(struct client *client) {
  if (client->room - client->size < 65536) {
    client->room = client->room * 2 + 131072;
    client->in = realloc(client->in, client->room);
    if (!client->in) fail("realloc");
  }
  ssize_t got = recv(client->fd, client->in + client->size, client->room - client->size - 1, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    hang_up(client);
    return;
  }
  client->size += got;
  client->in[client->size] = 0;
  serve(client);
}

static void accept_all(int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct client *client = calloc(1, sizeof *client);
    client->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
  }
}

int main(int given, char **words) {
  if (given != 4) return fprintf(stderr, "usage: upstream PORT CHUNKS INTERVAL_US\n"), 2;
  chunks = atoi(words[2]);
  interval_ns = atoll(words[3]) * 1000;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
  epoll_fd = epoll_create1(0);
  timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct epoll_event listening = {.events = EPOLLIN, .data.ptr = &listener};
  struct epoll_event ticking = {.events = EPOLLIN, .data.ptr = &timer_fd};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &listening);
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &ticking);
  for (;;) {
    struct epoll_event events[MOST_EVENTS];
    int found = epoll_wait(epoll_fd, events, MOST_EVENTS, -1);
    for (int i = 0; i < found; i++) {
      void *what = events[i].data.ptr;
      uint64_t expirations;
      if (what == &listener)
        accept_all(listener);
      else if (what == &timer_fd) {
        if (read(timer_fd, &expirations, sizeof expirations) > 0) tick();
      } else
        receive(what);
    }
  }
}
