import Primitives

/// An authority taken apart (RFC 3986 3.2): host and port, never user information.
public struct Authority: Hashable, Sendable {
  /// Lower-case bytes without port and without one trailing dot; an IPv6 literal keeps its brackets.
  public var host: [UInt8]
  public var port: UInt16?

  public init(_ bytes: Span<UInt8>) throws(MessageError) {
    let parts = try AuthorityParts(bytes)
    host = []
    host.reserveCapacity(parts.host.count)
    for i in parts.host { host.append(ASCII.lowercased(bytes[i])) }
    port = parts.port
  }
}

/// Where host and port stand in an authority; allocates nothing.
struct AuthorityParts {
  let host: Range<Int>
  let port: UInt16?
  /// True when the bytes already are the canonical form, so no copy is needed.
  let isCanonical: Bool

  init(_ bytes: Span<UInt8>) throws(MessageError) {
    guard !bytes.isEmpty, bytes.count <= 255 + 6 else { throw MessageError(.malformedHost) }
    var end: Int
    var canonical = true
    if bytes[0] == 0x5B {
      end = 1
      while end < bytes.count, bytes[end] != 0x5D {
        let byte = bytes[end]
        guard ASCII.hexValue(byte) != nil || byte == 0x3A || byte == 0x2E else { throw MessageError(.malformedHost) }
        if byte >= 0x41, byte <= 0x46 { canonical = false }
        end += 1
      }
      guard end > 2, end < bytes.count else { throw MessageError(.malformedHost) }
      end += 1
    } else {
      end = 0
      while end < bytes.count, ByteClass.has(bytes[end], ByteClass.regName) {
        if bytes[end] >= 0x41, bytes[end] <= 0x5A { canonical = false }
        end += 1
      }
    }
    var hostEnd = end
    if hostEnd > 0, bytes[hostEnd - 1] == 0x2E {
      hostEnd -= 1
      canonical = false
    }
    // One trailing dot is the root of DNS; a second one would be an empty label.
    guard hostEnd > 0, bytes[hostEnd - 1] != 0x2E else { throw MessageError(.malformedHost) }
    if end < bytes.count {
      guard bytes[end] == 0x3A, bytes.count - end - 1 <= 5 else { throw MessageError(.malformedHost) }
      var number = 0
      for i in (end + 1)..<bytes.count {
        guard ASCII.isDigit(bytes[i]) else { throw MessageError(.malformedHost) }
        number = number * 10 + Int(bytes[i] - 0x30)
      }
      guard let port = UInt16(exactly: number), port > 0 else { throw MessageError(.malformedHost) }
      // One way to write a port: what policies compare is what is forwarded.
      if bytes[end + 1] == 0x30 { canonical = false }
      self.port = port
    } else {
      port = nil
    }
    host = 0..<hostEnd
    isCanonical = canonical
  }
}
