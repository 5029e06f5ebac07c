import Primitives

/// What a TLS client says before anything is negotiated (RFC 8446 4.1.2), read without taking part in the handshake.
public struct ClientHello: Hashable, Sendable {
  /// The host name asked for (RFC 6066 3), in lower case; empty when there is none.
  public var serverName: [UInt8] = []
  /// Application protocols offered (RFC 7301), in the client's order.
  public var protocols: [[UInt8]] = []
  /// TLS versions offered, as on the wire (0x0304 is TLS 1.3), in the client's order.
  public var versions: [UInt16] = []

  public enum Outcome: Hashable, Sendable {
    /// All bytes so far could begin a ClientHello.
    case needMore
    case complete(ClientHello)
    /// The bytes are not TLS.
    case notTLS
    /// TLS, and not a ClientHello that anybody may act on.
    case malformed
  }

  /// Bytes of records looked at for one ClientHello. Post-quantum key shares make about 2 KiB; a hello in the smallest
  /// records that are allowed is six times as long as its content.
  public static let recordBytesMax = 32 * 1024
  /// Bytes of the handshake message itself; one record holds as many.
  public static let messageBytesMax = 16 * 1024

  /// Reads the beginning of a stream. The message may be spread over any number of records.
  public static func read(_ bytes: Span<UInt8>) -> Outcome {
    var message: [UInt8] = []
    var position = 0
    while true {
      guard let record = RecordHeader(bytes, at: position) else { return .notTLS }
      if position + record.bytesPresent > recordBytesMax { return .malformed }
      guard record.isWhole else { return .needMore }
      guard (1...16_384).contains(record.length) else { return position == 0 ? .notTLS : .malformed }
      let start = position + 5
      let end = min(start + record.length, bytes.count)
      message.append(bytes.extracting(start..<end))
      switch length(of: message) {
      case .failure: return .malformed
      case .success(let wanted?) where message.count >= wanted:
        guard let hello = try? ClientHello(message[4..<wanted]) else { return .malformed }
        return .complete(hello)
      case .success: break
      }
      guard end == start + record.length else { return .needMore }
      position = end
      if position > recordBytesMax { return .malformed }
    }
  }

  /// The first bytes of a record, as far as they are there.
  private struct RecordHeader {
    var bytesPresent: Int
    var length = 0
    var isWhole: Bool { bytesPresent == 5 }

    /// Nil when the bytes cannot be a handshake record: type 22, a version 3.x.
    init?(_ bytes: Span<UInt8>, at position: Int) {
      bytesPresent = min(5, bytes.count - position)
      if bytesPresent > 0, bytes[position] != 22 { return nil }
      if bytesPresent > 1, bytes[position + 1] != 3 { return nil }
      if bytesPresent > 2, bytes[position + 2] > 4 { return nil }
      if isWhole { length = Int(bytes[position + 3]) << 8 | Int(bytes[position + 4]) }
    }
  }

  private struct Refused: Error {}

  /// Bytes of the message with its header; nil while the header is not whole.
  private static func length(of message: [UInt8]) -> Result<Int?, Refused> {
    if let type = message.first, type != 1 { return .failure(Refused()) }
    guard message.count >= 4 else { return .success(nil) }
    let length = Int(message[1]) << 16 | Int(message[2]) << 8 | Int(message[3])
    return length <= messageBytesMax ? .success(length + 4) : .failure(Refused())
  }
}

extension ClientHello {
  /// Reads the body of the message.
  private init(_ body: ArraySlice<UInt8>) throws(ByteError) {
    var reader = ByteReader(body)
    let legacyVersion = try reader.uint16()
    _ = try reader.bytes(count: 32)
    let session = try reader.uint8()
    guard session <= 32 else { throw .malformed }
    _ = try reader.bytes(count: Int(session))
    let suites = try reader.uint16()
    guard suites >= 2, suites % 2 == 0 else { throw .malformed }
    _ = try reader.bytes(count: Int(suites))
    let compressions = try reader.uint8()
    guard compressions >= 1 else { throw .malformed }
    _ = try reader.bytes(count: Int(compressions))
    versions = [legacyVersion]
    guard !reader.isAtEnd else { return }
    let extensions = try reader.uint16()
    guard Int(extensions) == reader.remaining else { throw .malformed }
    try readExtensions(&reader)
  }

  private mutating func readExtensions(_ reader: inout ByteReader) throws(ByteError) {
    var seen: Set<UInt16> = []
    while !reader.isAtEnd {
      let type = try reader.uint16()
      let content = try reader.bytes(count: Int(reader.uint16()))
      // RFC 8446 4.2: no two of a type, so that nobody behind us reads another one than we do.
      guard seen.insert(type).inserted else { throw .malformed }
      switch type {
      case 0: serverName = try Self.serverName(content)
      case 16: protocols = try Self.protocols(content)
      case 43: versions = try Self.versions(content)
      default: break
      }
    }
  }

  /// Exactly one name of type host_name, of printable ASCII.
  private static func serverName(_ content: ArraySlice<UInt8>) throws(ByteError) -> [UInt8] {
    var reader = ByteReader(content)
    guard try Int(reader.uint16()) == reader.remaining, try reader.uint8() == 0 else { throw .malformed }
    let count = try Int(reader.uint16())
    guard (1...255).contains(count), count == reader.remaining else { throw .malformed }
    let name = try reader.bytes(count: count)
    guard name.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { throw .malformed }
    return name.map(ASCII.lowercased)
  }

  private static func protocols(_ content: ArraySlice<UInt8>) throws(ByteError) -> [[UInt8]] {
    var reader = ByteReader(content)
    guard try Int(reader.uint16()) == reader.remaining else { throw .malformed }
    var protocols: [[UInt8]] = []
    while !reader.isAtEnd {
      let count = try Int(reader.uint8())
      guard count > 0 else { throw .malformed }
      protocols.append(Array(try reader.bytes(count: count)))
    }
    return protocols
  }

  private static func versions(_ content: ArraySlice<UInt8>) throws(ByteError) -> [UInt16] {
    var reader = ByteReader(content)
    let count = try Int(reader.uint8())
    guard count == reader.remaining, count >= 2, count % 2 == 0 else { throw .malformed }
    var versions: [UInt16] = []
    while !reader.isAtEnd { versions.append(try reader.uint16()) }
    return versions
  }
}
