import Glibc
import Primitives

/// A connected TCP socket that closes itself.
final class TCPStream: ByteStream {
  let descriptor: Int32

  /// Takes over a connected socket.
  init(descriptor: Int32) {
    self.descriptor = descriptor
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    var on: Int32 = 1
    setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
  }

  deinit { close(descriptor) }

  func read(until deadline: Instant) throws(StreamError) -> [UInt8] {
    while true {
      var count = 0
      let bytes = [UInt8](unsafeUninitializedCapacity: Limits.readBytes) { buffer, initialized in
        count = recv(descriptor, buffer.baseAddress, buffer.count, 0)
        initialized = max(0, count)
      }
      if count >= 0 { return bytes }
      guard errno == EAGAIN || errno == EINTR else { throw .broken(systemError(errno)) }
      guard wait(for: POLLIN, until: deadline) else { throw .timedOut }
    }
  }

  func write(_ bytes: [UInt8], until deadline: Instant) throws(StreamError) {
    var sent = 0
    while sent < bytes.count {
      let count = bytes.withUnsafeBytes { buffer in
        send(descriptor, buffer.baseAddress.map { $0 + sent }, buffer.count - sent, Int32(MSG_NOSIGNAL))
      }
      if count >= 0 {
        sent += count
        continue
      }
      guard errno == EAGAIN || errno == EINTR else { throw .broken(systemError(errno)) }
      guard wait(for: POLLOUT, until: deadline) else { throw .timedOut }
    }
  }

  /// False when the deadline passed first.
  func wait(for events: Int32, until deadline: Instant) -> Bool {
    poll(events, orReadable: -1, until: deadline) == .ready
  }

  enum Event: Hashable {
    case ready, timedOut
    /// The other descriptor became readable first.
    case interrupted
  }

  /// Waits for `events` (errors and hang-up always count), for the other descriptor or for the deadline.
  func poll(_ events: Int32, orReadable other: Int32, until deadline: Instant) -> Event {
    while true {
      let left = deadline - Instant.now()
      guard left > .zero else { return .timedOut }
      let milliseconds = Int32(clamping: left.nanosecondsClamped / 1_000_000 + 1)
      var entries = [
        pollfd(fd: descriptor, events: Int16(truncatingIfNeeded: events), revents: 0),
        pollfd(fd: other, events: Int16(truncatingIfNeeded: POLLIN), revents: 0),
      ]
      let count = Glibc.poll(&entries, 2, milliseconds)
      if count < 0 && errno != EINTR { return .ready }
      if entries[0].revents != 0 { return .ready }
      if entries[1].revents != 0 { return .interrupted }
    }
  }

  /// Ends our side, then takes what the peer still sends for a moment, so that a last answer is not lost to a reset.
  func endAfterAnswer() {
    shutdown(descriptor, Int32(SHUT_WR))
    let deadline = Instant.now() + .seconds(1)
    var taken = 0
    while taken < Limits.bodyBytes, let bytes = try? read(until: deadline), !bytes.isEmpty { taken += bytes.count }
  }
}

/// The system's words for an error number.
func systemError(_ number: Int32) -> String {
  strerror(number).map { String(cString: $0) } ?? "error \(number)"
}
