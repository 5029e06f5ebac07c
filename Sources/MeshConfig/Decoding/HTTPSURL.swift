import Primitives

/// An `https` URL (RFC 9110 4.2.2) that a node asks for something itself.
///
/// Two that ask the same server for the same are equal: the host is in lower case, the port is there, a fragment is refused.
public struct HTTPSURL: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// A DNS name in lower case, or an IP address without brackets.
  public let host: String
  public let isAddress: Bool
  public let port: UInt16
  /// Path and query, as they are sent; at least `/`.
  public let target: String

  public static let bytesMax = 2_048
  static let scheme = "https://"

  /// Reads an absolute URL; errors say what is wrong with it.
  public init(parsing text: String) throws(NameError) {
    let bytes = text.utf8
    guard bytes.count <= Self.bytesMax else { throw NameError("a URL of more than \(Self.bytesMax) bytes") }
    guard bytes.prefix(Self.scheme.utf8.count).map(ASCII.lowercased).elementsEqual(Self.scheme.utf8) else {
      throw NameError("'\(text.prefix(80))' is not an https URL")
    }
    let rest = text[bytes.index(bytes.startIndex, offsetBy: Self.scheme.utf8.count)...]
    let authority = rest.utf8.prefix { $0 != 0x2F && $0 != 0x3F && $0 != 0x23 }
    (host, isAddress, port) = try Self.authority(String(rest[authority.startIndex..<authority.endIndex]))
    target = try Self.target(String(rest[authority.endIndex...]))
  }

  private init(_ base: HTTPSURL, target: String) {
    (host, isAddress, port) = (base.host, base.isAddress, base.port)
    self.target = target
  }

  /// Where a redirect from here leads (RFC 9110 10.2.2): to another URL, or to a path of the same server.
  public func redirected(to location: String) throws(NameError) -> HTTPSURL {
    guard location.utf8.count <= Self.bytesMax else { throw NameError("a URL of more than \(Self.bytesMax) bytes") }
    guard location.utf8.first == 0x2F, !location.hasPrefix("//") else { return try HTTPSURL(parsing: location) }
    return HTTPSURL(self, target: try Self.target(location))
  }

  /// As in a request's `host`.
  public var authority: String {
    let name = isAddress && host.utf8.contains(0x3A) ? "[\(host)]" : host
    return port == 443 ? name : "\(name):\(port)"
  }

  public var description: String { Self.scheme + authority + target }

  public static func < (a: HTTPSURL, b: HTTPSURL) -> Bool {
    (a.host, a.port, a.target) < (b.host, b.port, b.target)
  }

  // MARK: Parts

  private static func authority(_ text: String) throws(NameError) -> (host: String, isAddress: Bool, port: UInt16) {
    guard !text.utf8.contains(0x40) else { throw NameError("a URL with a user or a password: leave them out") }
    var name = text[...]
    var port: UInt16 = 443
    let colon = text.utf8.lastIndex(of: 0x3A)
    // Colons within brackets are an address's own.
    if let colon, !text.utf8[colon...].contains(0x5D) {
      guard let number = parseDecimal(text.utf8[text.utf8.index(after: colon)...], max: 65_535), number > 0 else {
        throw NameError("'\(text[colon...].prefix(20))' is not a port")
      }
      name = text[..<colon]
      port = UInt16(truncatingIfNeeded: number)
    }
    guard !name.isEmpty else { throw NameError("a URL without a host") }
    if name.utf8.first == 0x5B {
      let inner = name.dropFirst().dropLast()
      guard name.utf8.last == 0x5D, inner.utf8.contains(0x3A), AddressForm.isAddress(String(inner)) else {
        throw NameError("'\(name.prefix(80))' is not an IPv6 address in brackets")
      }
      return (lowercased(inner), true, port)
    }
    let host = lowercased(name)
    if AddressForm.isAddress(host), !host.utf8.contains(0x3A) { return (host, true, port) }
    guard isName(host) else { throw NameError("'\(name.prefix(80))' is neither a host name nor an IP address") }
    return (host, false, port)
  }

  private static func lowercased(_ text: Substring) -> String {
    String(decoding: text.utf8.map(ASCII.lowercased), as: UTF8.self)
  }

  /// Labels of letters, digits, hyphens and underscores. What ends in a number can only be an address, written another way.
  private static func isName(_ host: String) -> Bool {
    guard host.utf8.count <= ConfigLimits.subdomainBytesMax else { return false }
    let labels = host.utf8.split(separator: 0x2E, omittingEmptySubsequences: false)
    let isLabel = { (label: Substring.UTF8View) in
      (1...DNSLabel.bytesMax).contains(label.count) && label.first != 0x2D && label.last != 0x2D
        && label.allSatisfy { ASCII.isLowerAlphanumeric($0) || $0 == 0x2D || $0 == 0x5F }
    }
    return labels.allSatisfy(isLabel) && !(labels.last?.allSatisfy(ASCII.isDigit) ?? true)
  }

  /// RFC 3986, sections 3.3 and 3.4.
  private static func target(_ text: String) throws(NameError) -> String {
    var rest = text.utf8[...]
    while let byte = rest.first {
      switch byte {
      case 0x23: throw NameError("a URL with a fragment ('#'), which no server is sent: leave it out")
      case 0x25:
        guard rest.dropFirst().prefix(2).count(where: { ASCII.hexValue($0) != nil }) == 2 else {
          throw NameError("a '%' in a URL without two hexadecimal digits after it")
        }
      case 0x21, 0x24, 0x26...0x3B, 0x3D, 0x3F...0x5A, 0x5F, 0x61...0x7A, 0x7E: break
      default: throw NameError("a URL with a character that has to be written as %XX (byte \(byte))")
      }
      rest = rest.dropFirst()
    }
    return text.utf8.first == 0x2F ? text : "/" + text
  }
}
