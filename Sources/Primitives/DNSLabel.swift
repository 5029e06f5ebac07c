/// Why a name was refused, in words for the person who wrote it.
public struct NameError: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// Byte classes of names. ASCII only: Unicode folding and equivalence are security bugs in a proxy.
public enum ASCII {
  public static func isLowerAlphanumeric(_ b: UInt8) -> Bool { isDigit(b) || (b >= 0x61 && b <= 0x7A) }
  public static func isDigit(_ b: UInt8) -> Bool { b >= 0x30 && b <= 0x39 }
  public static func lowercased(_ b: UInt8) -> UInt8 { b >= 0x41 && b <= 0x5A ? b | 0x20 : b }
  /// The value of a hexadecimal digit in either case.
  public static func hexValue(_ b: UInt8) -> UInt8? {
    switch b {
    case 0x30...0x39: b - 0x30
    case 0x61...0x66: b - 0x57
    case 0x41...0x46: b - 0x37
    default: nil
    }
  }
}

/// A lower-case DNS label (RFC 1123): 1–63 bytes of `a-z`, `0-9` and `-`, not starting or ending with `-`.
///
/// Names of nodes, namespaces, services, workloads and accounts are labels, so comparing them compares bytes.
public struct DNSLabel: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
  public let string: String
  public static let bytesMax = 63

  public init(_ string: String) throws(NameError) {
    let bytes = string.utf8
    guard !bytes.isEmpty else { throw NameError("a name must not be empty") }
    guard bytes.count <= Self.bytesMax else {
      throw NameError("'\(string.prefix(80))' has \(bytes.count) bytes; a name has at most \(Self.bytesMax)")
    }
    guard bytes.allSatisfy({ ASCII.isLowerAlphanumeric($0) || $0 == 0x2D }),
      bytes.first != 0x2D, bytes.last != 0x2D
    else {
      throw NameError(
        "'\(string)' is not a name: use lower-case letters, digits and '-', starting and ending with a letter or digit")
    }
    self.string = string
  }

  public init(from decoder: any Decoder) throws {
    try self.init(decoder.singleValueContainer().decode(String.self))
  }
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(string)
  }

  public static func < (a: DNSLabel, b: DNSLabel) -> Bool {
    // By bytes, which for ASCII is the order of strings, compared at once.
    a.string < b.string
  }
  public var description: String { string }
}

/// The name of one mesh-node process, unique in its cluster.
public typealias NodeName = DNSLabel
