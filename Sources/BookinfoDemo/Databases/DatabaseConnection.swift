import Primitives

/// A TCP connection to a database, through the mesh where the process has a proxy; read in exact lengths, with one deadline
/// for everything.
final class DatabaseConnection {
  private let stream: TCPStream
  private let deadline: Instant
  private var buffer: [UInt8]

  init(host: String, port: UInt16, through proxies: Proxies, deadline: Instant) throws(CallError) {
    let proxy = proxies.proxy(host: host, isEncrypted: false)
    (stream, buffer) = try TCPStream.connect(host: host, port: port, through: proxy, until: deadline)
    self.deadline = deadline
  }

  func write(_ bytes: [UInt8]) throws(StreamError) { try stream.write(bytes, until: deadline) }

  /// Exactly `count` bytes.
  func read(count: Int) throws(StreamError) -> [UInt8] {
    guard count <= Limits.databaseMessageBytes else { throw .broken("a message of \(count) bytes") }
    while buffer.count < count {
      let bytes = try stream.read(until: deadline)
      guard !bytes.isEmpty else { throw .broken("the database ended the connection") }
      buffer += bytes
    }
    defer { buffer.removeFirst(count) }
    return Array(buffer.prefix(count))
  }
}

/// Little-endian integers and terminated text, as both databases write them; every read is checked.
struct LittleEndianReader {
  private(set) var rest: ArraySlice<UInt8>

  init(_ bytes: some Sequence<UInt8>) { rest = Array(bytes)[...] }

  var isAtEnd: Bool { rest.isEmpty }

  mutating func bytes(_ count: Int) throws(ByteError) -> [UInt8] {
    guard count >= 0, count <= rest.count else { throw .truncated }
    defer { rest = rest.dropFirst(count) }
    return Array(rest.prefix(count))
  }

  mutating func integer<T: FixedWidthInteger>(_ type: T.Type = T.self) throws(ByteError) -> T {
    try bytes(T.bitWidth / 8).reversed().reduce(0) { $0 << 8 | T(truncatingIfNeeded: $1) }
  }

  /// Bytes before the next zero byte, which is consumed.
  mutating func terminated() throws(ByteError) -> [UInt8] {
    guard let end = rest.firstIndex(of: 0) else { throw .truncated }
    defer { rest = rest[(end + 1)...] }
    return Array(rest[..<end])
  }
}

extension [UInt8] {
  mutating func appendLittleEndian<T: FixedWidthInteger>(_ value: T) {
    for shift in stride(from: 0, to: T.bitWidth, by: 8) { append(UInt8(truncatingIfNeeded: value >> T(shift))) }
  }
}
