#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// <linux/netfilter_ipv4.h> cannot be included beside <netinet/in.h>.
#define SO_ORIGINAL_DST 80

const uint32_t CL_EPOLLIN = EPOLLIN;
const uint32_t CL_EPOLLOUT = EPOLLOUT;
const uint32_t CL_EPOLLRDHUP = EPOLLRDHUP;
const uint32_t CL_EPOLLHUP = EPOLLHUP;
const uint32_t CL_EPOLLERR = EPOLLERR;
const uint32_t CL_EPOLLET = EPOLLET;

static int result(int value) { return value < 0 ? -errno : value; }

int cl_epoll_create(void) { return result(epoll_create1(EPOLL_CLOEXEC)); }

int cl_epoll_add(int epoll, int fd, uint32_t events, uint64_t data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  return result(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

int cl_epoll_delete(int epoll, int fd) { return result(epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL)); }

int cl_epoll_wait(int epoll, cl_epoll_event *events, int count, int timeout_ms) {
  struct epoll_event ready[CL_EPOLL_EVENTS_MAX];
  if (count > CL_EPOLL_EVENTS_MAX) count = CL_EPOLL_EVENTS_MAX;
  int found = epoll_wait(epoll, ready, count, timeout_ms);
  if (found < 0) return -errno;
  for (int i = 0; i < found; i++) {
    events[i].events = ready[i].events;
    events[i].data = ready[i].data.u64;
  }
  return found;
}

int cl_eventfd(void) { return result(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); }

int cl_socket_stream(int family) { return result(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }

int cl_socket_datagram(int family) { return result(socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }

int cl_accept(int listener, struct sockaddr_storage *address, socklen_t *length) {
  return result(accept4(listener, (struct sockaddr *)address, length, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

static int set(int fd, int level, int name, int value) {
  return result(setsockopt(fd, level, name, &value, sizeof value));
}

int cl_set_reuse_address(int fd) { return set(fd, SOL_SOCKET, SO_REUSEADDR, 1); }
int cl_set_reuse_port(int fd) { return set(fd, SOL_SOCKET, SO_REUSEPORT, 1); }
int cl_set_ipv6_only(int fd) { return set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1); }
int cl_set_no_delay(int fd) { return set(fd, IPPROTO_TCP, TCP_NODELAY, 1); }

int cl_set_keep_alive(int fd, int time, int interval, int probes) {
  int code = set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  if (code >= 0 && time > 0) code = set(fd, IPPROTO_TCP, TCP_KEEPIDLE, time);
  if (code >= 0 && interval > 0) code = set(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval);
  if (code >= 0 && probes > 0) code = set(fd, IPPROTO_TCP, TCP_KEEPCNT, probes);
  return code;
}

int cl_splice_pipe(int *read_side, int *write_side, int bytes) {
  int sides[2];
  if (pipe2(sides, O_NONBLOCK | O_CLOEXEC) < 0) return -errno;
  // Beyond what the user may have, a pipe keeps its first size.
  fcntl(sides[1], F_SETPIPE_SZ, bytes);
  *read_side = sides[0];
  *write_side = sides[1];
  return 0;
}

ssize_t cl_splice(int from, int to, size_t count) {
  ssize_t moved = splice(from, NULL, to, NULL, count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  return moved < 0 ? -errno : moved;
}

ssize_t cl_peek(int fd, void *bytes, size_t count) {
  ssize_t found = recv(fd, bytes, count, MSG_PEEK | MSG_DONTWAIT);
  return found < 0 ? -errno : found;
}

int cl_set_reset_on_close(int fd) {
  struct linger linger = {.l_onoff = 1, .l_linger = 0};
  return result(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
}

int cl_socket_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0) return -errno;
  return error;
}

int cl_original_destination(int fd, int family, struct sockaddr_storage *address, socklen_t *length) {
  int level = family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
  return result(getsockopt(fd, level, SO_ORIGINAL_DST, address, length));
}

int cl_peer_credentials(int fd, pid_t *pid, uid_t *uid, gid_t *gid) {
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return -errno;
  *pid = credentials.pid;
  *uid = credentials.uid;
  *gid = credentials.gid;
  return 0;
}

ssize_t cl_send(int fd, const void *bytes, size_t count) {
  ssize_t sent = send(fd, bytes, count, MSG_NOSIGNAL);
  return sent < 0 ? -errno : sent;
}

void cl_ignore_broken_pipe(void) { signal(SIGPIPE, SIG_IGN); }

int cl_set_dumpable(bool dumpable) { return result(prctl(PR_SET_DUMPABLE, dumpable ? 1 : 0)); }

void cl_set_thread_name(const char *name) {
  char kept[16] = {0};
  strncpy(kept, name, sizeof kept - 1);
  prctl(PR_SET_NAME, kept);
}

int64_t cl_raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
  return (int64_t)limit.rlim_cur;
}

// Counts while the machine sleeps: a lease that ran out meanwhile is over when it wakes.
uint64_t cl_monotonic_nanoseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_BOOTTIME, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

int cl_terminal_columns(int fd) {
  struct winsize size;
  if (!isatty(fd) || ioctl(fd, TIOCGWINSZ, &size) < 0) return 0;
  return size.ws_col;
}

// After fork only async-signal-safe calls are allowed: the other threads, and any lock they held, are gone.
static void run_child(const cl_command *command, pid_t parent, int report) {
  sigset_t none;
  sigemptyset(&none);
  struct sigaction standard = {.sa_handler = SIG_DFL};
  for (int number = 1; number < NSIG; number++) sigaction(number, &standard, NULL);
  sigprocmask(SIG_SETMASK, &none, NULL);
  if (setpgid(0, 0) < 0) goto failed;
  if (command->dies_with_parent) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) goto failed;
    if (getppid() != parent) _exit(127);  // it died before the line above
  }
  if (command->directory && chdir(command->directory) < 0) goto failed;
  // Duplicated out of 0–2 first, so that neither dup2 closes what the other needs.
  int output = command->standard_output < 0 ? -1 : fcntl(command->standard_output, F_DUPFD_CLOEXEC, 3);
  int error = command->standard_error < 0 ? -1 : fcntl(command->standard_error, F_DUPFD_CLOEXEC, 3);
  if (command->standard_output >= 0 && (output < 0 || dup2(output, 1) < 0)) goto failed;
  if (command->standard_error >= 0 && (error < 0 || dup2(error, 2) < 0)) goto failed;
  if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0 && errno != ENOSYS && errno != EINVAL) goto failed;
  execvpe(command->program, command->arguments, command->environment);
failed:;
  int code = errno;
  ssize_t ignored = write(report, &code, sizeof code);
  (void)ignored;
  _exit(127);
}

pid_t cl_spawn(const cl_command *command) {
  int report[2];
  if (pipe2(report, O_CLOEXEC) < 0) return -errno;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // no handler of ours runs in the child
  pid_t parent = getpid();
  pid_t child = fork();
  if (child == 0) run_child(command, parent, report[1]);
  int code = child < 0 ? errno : 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  close(report[1]);
  if (child > 0) {
    ssize_t got;
    do got = read(report[0], &code, sizeof code);
    while (got < 0 && errno == EINTR);
    if (got == sizeof code) {
      while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
      }
    } else {
      code = 0;
    }
  }
  close(report[0]);
  return code ? -code : child;
}

int cl_child_descriptor(pid_t child) { return result((int)syscall(SYS_pidfd_open, child, 0)); }

bool cl_exited(int status) { return WIFEXITED(status); }
int cl_exit_status(int status) { return WEXITSTATUS(status); }
bool cl_signaled(int status) { return WIFSIGNALED(status); }
int cl_term_signal(int status) { return WTERMSIG(status); }

int cl_signal_descriptor(const int *signals, int count) {
  sigset_t set;
  sigemptyset(&set);
  for (int i = 0; i < count; i++) sigaddset(&set, signals[i]);
  int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
  if (error) return -error;
  return result(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
}

int cl_next_signal(int fd) {
  struct signalfd_siginfo info;
  ssize_t got = read(fd, &info, sizeof info);
  if (got < 0) return errno == EAGAIN ? 0 : -errno;
  return got == sizeof info ? (int)info.ssi_signo : 0;
}
