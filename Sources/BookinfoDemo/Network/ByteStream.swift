import Primitives

/// Why a stream of bytes could not go on.
enum StreamError: Error, Hashable, Sendable {
  case timedOut
  /// The other side ended or reset the connection, or TLS failed; in words.
  case broken(String)
}

/// A connection's bytes, plain or encrypted, read and written with deadlines by one thread.
protocol ByteStream: AnyObject {
  /// The next bytes; empty when the other side has ended.
  func read(until deadline: Instant) throws(StreamError) -> [UInt8]
  func write(_ bytes: [UInt8], until deadline: Instant) throws(StreamError)
}
