import CLinux
import Glibc

/// Signals as a descriptor to poll. Installed on the main thread before any other thread starts, so all inherit the mask.
enum Signals {
  nonisolated(unsafe) private static var descriptor: Int32 = -1

  static func install() throws {
    let wanted = [SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGWINCH]
    let result = cl_signal_descriptor(wanted, Int32(wanted.count))
    guard result >= 0 else { throw CommandFailure("cannot watch signals: \(errorText(-result))") }
    descriptor = result
  }

  /// The signals that have arrived.
  static func pending() -> [Int32] {
    var signals: [Int32] = []
    while true {
      let number = cl_next_signal(descriptor)
      guard number > 0 else { return signals }
      signals.append(number)
    }
  }

  /// Waits until a descriptor is readable or `timeout` has passed.
  static func wait(on descriptors: [Int32], timeout: Duration) {
    var polled = (descriptors + [descriptor]).filter { $0 >= 0 }.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    let milliseconds = Int32(max(0, min(timeout.inMillisecondsRoundedUp, 60_000)))
    _ = poll(&polled, nfds_t(polled.count), milliseconds)
  }
}

extension Duration {
  fileprivate var inMillisecondsRoundedUp: Int64 {
    components.seconds * 1000 + (components.attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
  }
}
