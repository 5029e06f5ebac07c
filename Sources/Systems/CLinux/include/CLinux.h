// What Swift cannot see of Linux: packed structures, variadic calls, macros, and fork.
#ifndef CLINUX_H
#define CLINUX_H

#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

// epoll. `struct epoll_event` is packed on x86-64, which Swift does not import, so events travel as this plain pair.
typedef struct {
  uint32_t events;
  uint64_t data;
} cl_epoll_event;

extern const uint32_t CL_EPOLLIN;
extern const uint32_t CL_EPOLLOUT;
extern const uint32_t CL_EPOLLRDHUP;
extern const uint32_t CL_EPOLLHUP;
extern const uint32_t CL_EPOLLERR;
extern const uint32_t CL_EPOLLET;

/// Events one `cl_epoll_wait` returns at most.
#define CL_EPOLL_EVENTS_MAX 256

/// Each returns 0 or a non-negative value, or `-errno`.
int cl_epoll_create(void);
int cl_epoll_add(int epoll, int fd, uint32_t events, uint64_t data);
int cl_epoll_delete(int epoll, int fd);
/// Waits at most `timeout_ms` (-1: for ever) for up to `count` (at most CL_EPOLL_EVENTS_MAX) events.
int cl_epoll_wait(int epoll, cl_epoll_event *events, int count, int timeout_ms);

/// A nonblocking, close-on-exec event counter.
int cl_eventfd(void);

// Sockets. All descriptors are nonblocking and close-on-exec; each call returns a descriptor or count, or `-errno`.
int cl_socket_stream(int family);
int cl_socket_datagram(int family);
int cl_accept(int listener, struct sockaddr_storage *address, socklen_t *length);
int cl_set_reuse_address(int fd);
int cl_set_reuse_port(int fd);
int cl_set_ipv6_only(int fd);
int cl_set_no_delay(int fd);
/// `SO_LINGER` with zero seconds: closing sends RST.
int cl_set_reset_on_close(int fd);
/// Probes of a silent connection: seconds before the first, seconds between, and how many; 0 leaves the system's value.
int cl_set_keep_alive(int fd, int time, int interval, int probes);
/// A nonblocking pipe that holds about `bytes`, for `cl_splice`.
int cl_splice_pipe(int *read_side, int *write_side, int bytes);
/// Moves bytes between a socket and a pipe inside the kernel; 0 at the end of the stream, or `-errno`.
ssize_t cl_splice(int from, int to, size_t count);
/// Copies received bytes and leaves them where they are; 0 at the end of the stream, or `-errno`.
ssize_t cl_peek(int fd, void *bytes, size_t count);
/// The pending error of a socket (a positive errno, 0 for none), or `-errno`.
int cl_socket_error(int fd);
/// The address a connection had before iptables REDIRECT.
int cl_original_destination(int fd, int family, struct sockaddr_storage *address, socklen_t *length);
int cl_peer_credentials(int fd, pid_t *pid, uid_t *uid, gid_t *gid);
ssize_t cl_send(int fd, const void *bytes, size_t count);

// Process.
void cl_ignore_broken_pipe(void);
/// Whether core dumps and tracing by other processes of the user are allowed.
int cl_set_dumpable(bool dumpable);
/// Names the calling thread (15 bytes are kept).
void cl_set_thread_name(const char *name);
/// Raises the soft limit of open files to the hard limit; returns the limit in force, or `-errno`.
int64_t cl_raise_descriptor_limit(void);
uint64_t cl_monotonic_nanoseconds(void);
/// Columns of the terminal behind `fd`, or 0 when it is not a terminal.
int cl_terminal_columns(int fd);

/// What a started command runs with.
typedef struct {
  const char *program;         // looked up in PATH when it has no '/'
  char *const *arguments;      // null-terminated
  char *const *environment;    // null-terminated
  const char *directory;       // null: the caller's
  int standard_output;         // -1: the caller's
  int standard_error;          // -1: the caller's
  bool dies_with_parent;       // SIGKILL when the *thread* that started it ends
} cl_command;

/// Starts a command as the leader of a new process group, with default signal handling and no inherited descriptors but
/// 0, 1 and 2. Returns its process id, or `-errno` of what failed, exec included.
pid_t cl_spawn(const cl_command *command);

/// A descriptor that becomes readable when a child of this process ends, or `-errno`.
int cl_child_descriptor(pid_t child);

bool cl_exited(int status);
int cl_exit_status(int status);
bool cl_signaled(int status);
int cl_term_signal(int status);

/// A nonblocking descriptor that becomes readable when one of `signals` arrives; the signals are blocked in the calling
/// thread and in those it starts afterwards. Call it on the main thread before any other thread is started.
int cl_signal_descriptor(const int *signals, int count);
/// The next signal of such a descriptor, 0 when there is none, or `-errno`.
int cl_next_signal(int fd);

#endif
