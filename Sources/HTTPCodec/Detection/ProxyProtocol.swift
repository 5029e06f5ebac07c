import Primitives

/// The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): who a connection was made by, in front of its bytes.
public struct ProxyProtocol: Hashable, Sendable {
  /// An end of the proxied connection: 4 or 16 bytes in network order, and its port.
  public struct End: Hashable, Sendable {
    public var address: [UInt8]
    public var port: UInt16
    public init(address: [UInt8], port: UInt16) {
      self.address = address
      self.port = port
    }
  }

  public enum Version: Hashable, Sendable { case v1, v2 }

  /// Both ends; nil when the sender speaks for itself (LOCAL, a health check) or does not know: then the connection's own
  /// addresses count.
  public var ends: (source: End, destination: End)? {
    guard let source, let destination else { return nil }
    return (source, destination)
  }
  private var source: End?
  private var destination: End?

  public init(source: End, destination: End) {
    self.source = source
    self.destination = destination
  }

  private init() {}

  /// The sender does not say who is behind it.
  public static let unknown = ProxyProtocol()

  public enum Outcome: Hashable, Sendable {
    case needMore
    /// The header, and how many bytes it took: the stream begins right after them.
    case complete(ProxyProtocol, count: Int)
    /// No header, or a wrong one. The connection has to be closed: what follows belongs to nobody.
    case malformed
  }

  /// Bytes of a version 1 line with its line end.
  static let lineBytesMax = 107
  /// Bytes behind the fixed part of a version 2 header: addresses of Unix sockets take 216, TLVs in use a few hundred.
  public static let payloadBytesMax = 4096
  /// Bytes of the longest header.
  public static let headerBytesMax = 16 + payloadBytesMax

  static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]
  static let word = Array("PROXY ".utf8)

  /// Reads the header that has to stand at the beginning of a stream.
  public static func read(_ bytes: Span<UInt8>) -> Outcome {
    guard !bytes.isEmpty else { return .needMore }
    let expected = bytes[0] == signature[0] ? signature : word
    for index in 0..<min(bytes.count, expected.count) where bytes[index] != expected[index] { return .malformed }
    guard bytes.count >= expected.count else { return .needMore }
    return bytes[0] == signature[0] ? readBinary(bytes) : readLine(bytes)
  }
}

// MARK: - Version 1

extension ProxyProtocol {
  private static func readLine(_ bytes: Span<UInt8>) -> Outcome {
    var line: [UInt8] = []
    for index in 0..<min(bytes.count, lineBytesMax) {
      line.append(bytes[index])
      guard bytes[index] == 0x0A else { continue }
      guard index > 0, bytes[index - 1] == 0x0D, let header = ProxyProtocol(line: line.dropLast(2)) else { return .malformed }
      return .complete(header, count: index + 1)
    }
    return bytes.count >= lineBytesMax ? .malformed : .needMore
  }

  /// `PROXY TCP4 source destination port port`, or `PROXY UNKNOWN` with anything behind it.
  private init?(line: ArraySlice<UInt8>) {
    let words = line.split(separator: 0x20, omittingEmptySubsequences: false)
    guard words.count >= 2 else { return nil }
    if words[1].elementsEqual("UNKNOWN".utf8) {
      self = .unknown
      return
    }
    let isV6 = words[1].elementsEqual("TCP6".utf8)
    guard words.count == 6, isV6 || words[1].elementsEqual("TCP4".utf8),
      let source = AddressText.parse(words[2], isV6: isV6), let destination = AddressText.parse(words[3], isV6: isV6),
      let sourcePort = AddressText.port(words[4]), let destinationPort = AddressText.port(words[5])
    else { return nil }
    self.init(
      source: End(address: source, port: sourcePort), destination: End(address: destination, port: destinationPort))
  }
}

// MARK: - Version 2

extension ProxyProtocol {
  private enum Family: UInt8 { case unspecified = 0x00, tcp4 = 0x11, tcp6 = 0x21, unixStream = 0x31 }

  private static func readBinary(_ bytes: Span<UInt8>) -> Outcome {
    guard bytes.count > 12 else { return .needMore }
    guard bytes[12] == 0x20 || bytes[12] == 0x21 else { return .malformed }
    guard bytes.count >= 16 else { return .needMore }
    let length = Int(bytes[14]) << 8 | Int(bytes[15])
    // Judged before it is waited for: nobody makes us hold more.
    guard length <= payloadBytesMax, let family = Family(rawValue: bytes[13]) else { return .malformed }
    guard bytes.count >= 16 + length else { return .needMore }
    let whole = bytes.extracting(0..<(16 + length))
    let isLocal = bytes[12] == 0x20
    guard let header = read(whole, family, isLocal: isLocal) else { return .malformed }
    return .complete(header, count: 16 + length)
  }

  private static func read(_ bytes: Span<UInt8>, _ family: Family, isLocal: Bool) -> ProxyProtocol? {
    // Of a LOCAL header nothing is used, whatever it holds.
    if isLocal { return .unknown }
    let addressBytes: Int
    switch family {
    case .unspecified: return .unknown
    case .tcp4: addressBytes = 4
    case .tcp6: addressBytes = 16
    case .unixStream: addressBytes = 106
    }
    var all: [UInt8] = []
    all.append(bytes.extracting(16..<bytes.count))
    var reader = ByteReader(all)
    guard let source = try? reader.bytes(count: addressBytes), let destination = try? reader.bytes(count: addressBytes) else {
      return nil
    }
    if family == .unixStream { return areWellFormed(&reader, bytes) ? .unknown : nil }
    guard let sourcePort = try? reader.uint16(), let destinationPort = try? reader.uint16(), areWellFormed(&reader, bytes)
    else {
      return nil
    }
    return ProxyProtocol(
      source: End(address: Array(source), port: sourcePort),
      destination: End(address: Array(destination), port: destinationPort))
  }

  private enum Addition { static let protocolName: UInt8 = 0x01, authority: UInt8 = 0x02, checksum: UInt8 = 0x03 }

  /// Whether the additions (TLVs) fill the rest exactly, say text where they must, and carry a right checksum if any.
  private static func areWellFormed(_ reader: inout ByteReader, _ bytes: Span<UInt8>) -> Bool {
    while !reader.isAtEnd {
      guard let type = try? reader.uint8(), let length = try? reader.uint16() else { return false }
      let offset = bytes.count - reader.remaining
      guard let value = try? reader.bytes(count: Int(length)) else { return false }
      switch type {
      case Addition.authority where String(validating: value, as: UTF8.self) == nil: return false
      case Addition.checksum:
        guard value.count == 4, checksum(bytes, zeroing: offset) == value.reduce(0, { $0 << 8 | UInt32($1) }) else {
          return false
        }
      default: break
      }
    }
    return true
  }

  /// CRC-32C (RFC 4960, appendix B) of the header with the checksum's own bytes as zero.
  private static func checksum(_ bytes: Span<UInt8>, zeroing offset: Int) -> UInt32 {
    var crc: UInt32 = .max
    for index in bytes.indices {
      crc ^= (offset..<(offset + 4)).contains(index) ? 0 : UInt32(bytes[index])
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
    }
    return ~crc
  }
}

// MARK: - Writing

extension ProxyProtocol {
  /// Appends the header in the given version.
  public func write(_ version: Version, into output: inout [UInt8]) {
    switch version {
    case .v1: writeLine(into: &output)
    case .v2: writeBinary(into: &output)
    }
  }

  private func writeLine(into output: inout [UInt8]) {
    guard let (source, destination) = ends, source.address.count == destination.address.count else {
      output.append(contentsOf: "PROXY UNKNOWN\r\n".utf8)
      return
    }
    let family = source.address.count == 4 ? "TCP4" : "TCP6"
    let (from, to) = (AddressText.text(source.address), AddressText.text(destination.address))
    output.append(contentsOf: "PROXY \(family) \(from) \(to) \(source.port) \(destination.port)\r\n".utf8)
  }

  private func writeBinary(into output: inout [UInt8]) {
    output.append(contentsOf: Self.signature)
    guard let (source, destination) = ends, source.address.count == destination.address.count else {
      output.append(contentsOf: [0x20, Family.unspecified.rawValue, 0, 0])
      return
    }
    let isV6 = source.address.count == 16
    output.append(contentsOf: [0x21, (isV6 ? Family.tcp6 : .tcp4).rawValue, 0, isV6 ? 36 : 12])
    output.append(contentsOf: source.address)
    output.append(contentsOf: destination.address)
    for port in [source.port, destination.port] {
      output.append(contentsOf: [UInt8(port >> 8), UInt8(truncatingIfNeeded: port)])
    }
  }
}

/// Addresses as the PROXY line writes them.
private enum AddressText {
  /// Decimal, without sign or leading zeros.
  static func port(_ text: ArraySlice<UInt8>) -> UInt16? {
    guard text.count == 1 || text.first != 0x30 else { return nil }
    return parseDecimal(text, max: 65_535).map { UInt16($0) }
  }

  static func parse(_ text: ArraySlice<UInt8>, isV6: Bool) -> [UInt8]? { isV6 ? v6(text) : v4(text) }

  private static func v4(_ text: ArraySlice<UInt8>) -> [UInt8]? {
    let parts = text.split(separator: 0x2E, omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var bytes: [UInt8] = []
    for part in parts {
      guard part.count <= 3, part.count == 1 || part.first != 0x30, let value = parseDecimal(part, max: 255) else { return nil }
      bytes.append(UInt8(value))
    }
    return bytes
  }

  /// RFC 4291 2.2: eight groups, one run of zeros left out, the last two groups as IPv4 if wished.
  private static func v6(_ text: ArraySlice<UInt8>) -> [UInt8]? {
    guard (2...45).contains(text.count) else { return nil }
    var gap: Int?
    for index in text.indices.dropLast() where text[index] == 0x3A && text[index + 1] == 0x3A {
      guard gap == nil else { return nil }
      gap = index
    }
    guard let gap else { return groups(text, allowsIPv4: true).flatMap { $0.count == 16 ? $0 : nil } }
    guard let head = groups(text[..<gap], allowsIPv4: false), let tail = groups(text[(gap + 2)...], allowsIPv4: true),
      head.count + tail.count <= 14
    else { return nil }
    return head + [UInt8](repeating: 0, count: 16 - head.count - tail.count) + tail
  }

  private static func groups(_ text: ArraySlice<UInt8>, allowsIPv4: Bool) -> [UInt8]? {
    if text.isEmpty { return [] }
    var bytes: [UInt8] = []
    let parts = text.split(separator: 0x3A, omittingEmptySubsequences: false)
    for (index, part) in parts.enumerated() {
      if allowsIPv4, index == parts.count - 1, part.contains(0x2E) {
        guard let tail = v4(part) else { return nil }
        bytes += tail
        continue
      }
      guard (1...4).contains(part.count) else { return nil }
      var value: UInt16 = 0
      for byte in part {
        guard let digit = ASCII.hexValue(byte) else { return nil }
        value = value << 4 | UInt16(digit)
      }
      bytes += [UInt8(value >> 8), UInt8(truncatingIfNeeded: value)]
      if bytes.count > 16 { return nil }
    }
    return bytes.count <= 16 ? bytes : nil
  }

  static func text(_ address: [UInt8]) -> String {
    if address.count == 4 { return address.map { String($0) }.joined(separator: ".") }
    return stride(from: 0, to: address.count - 1, by: 2).map { index in
      String(UInt16(address[index]) << 8 | UInt16(address[index + 1]), radix: 16)
    }.joined(separator: ":")
  }
}
