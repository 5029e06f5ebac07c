import CLinux
import Glibc
import Primitives
import Transport

/// Waits for sockets with a resolution of microseconds, which an open-loop load needs and `epoll_wait` does not give.
final class Poller {
  private let epoll: Int32
  private let events: UnsafeMutablePointer<cl_epoll_event>
  private static let batch = 256

  init() throws {
    epoll = cl_epoll_create()
    // `select` takes descriptors below 1,024; this one is opened first.
    guard (0..<1024).contains(epoll) else { throw SystemError("create event poll", code: epoll < 0 ? -epoll : EMFILE) }
    events = .allocate(capacity: Self.batch)
  }

  deinit {
    events.deallocate()
    close(epoll)
  }

  /// Watches a descriptor, edge-triggered, in both directions.
  func add(_ descriptor: Int32, _ id: Int) throws {
    let code = cl_epoll_add(
      epoll, descriptor, CL_EPOLLIN | CL_EPOLLOUT | CL_EPOLLRDHUP | CL_EPOLLET, UInt64(UInt(bitPattern: id)))
    if code != 0 { throw SystemError("watch descriptor \(descriptor)", code: -code) }
  }

  func remove(_ descriptor: Int32) { _ = cl_epoll_delete(epoll, descriptor) }

  /// Calls `ready` for each descriptor that became ready before `deadline`.
  func wait(until deadline: Instant, _ ready: (_ id: Int) -> Void) {
    var count = cl_epoll_wait(epoll, events, Int32(Self.batch), 0)
    if count == 0 {
      sleep(until: deadline)
      count = cl_epoll_wait(epoll, events, Int32(Self.batch), 0)
    }
    for index in 0..<max(0, Int(count)) { ready(Int(bitPattern: UInt(events[index].data))) }
  }

  private func sleep(until deadline: Instant) {
    let left = max(0, (deadline - Poller.now).nanosecondsClamped) / 1000
    var time = timeval(tv_sec: Int(left / 1_000_000), tv_usec: Int(left % 1_000_000))
    var watched = fd_set()
    withUnsafeMutableBytes(of: &watched) { $0[Int(epoll) / 8] |= 1 << UInt8(epoll % 8) }
    _ = select(epoll + 1, &watched, nil, nil, &time)
  }

  static var now: Instant { EventLoop.monotonicNow() }
}
