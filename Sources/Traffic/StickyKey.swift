import HTTPCodec
import MeshConfig
import Primitives

/// What a consistent-hash policy finds in a request.
public enum StickyKey: Hashable, Sendable {
  /// Nothing to hash: any endpoint will do.
  case absent
  case hash(UInt64)
  /// The policy's cookie was missing and has a lifetime: send this `set-cookie` value with the response.
  case newCookie(hash: UInt64, setCookie: [UInt8])

  /// The hash for `LoadBalancer.pick`.
  public var hash: UInt64? {
    switch self {
    case .absent: nil
    case .hash(let hash), .newCookie(let hash, _): hash
    }
  }

  /// - Parameter sourceAddress: the client's IP address without port, in bytes.
  public init(
    _ request: some RequestView, _ key: LoadBalancerPolicy.HashKey, sourceAddress: [UInt8], draws: inout SeededGenerator
  ) {
    switch key {
    case .sourceAddress: self = .hash(StableHash.hash(sourceAddress.span))
    case .header(let name):
      self = request.withBytes { bytes in
        var cursor = 0
        guard let value = request.nextHeader(named: name, from: &cursor) else { return .absent }
        return .hash(StableHash.hash(bytes.extracting(value)))
      }
    case .queryParameter(let name):
      self = request.withBytes { bytes in
        guard let query = request.query, let value = QueryParameter.first(name, in: query, bytes) else { return .absent }
        return .hash(StableHash.hash(bytes.extracting(value)))
      }
    case .cookie(let name, let path, let ttl, let attributes):
      if let hash = Self.cookieHash(name, of: request) {
        self = .hash(hash)
      } else if let ttl {
        self = Self.cookie(name: name, path: path, ttl: ttl, attributes, draws: &draws)
      } else {
        self = .absent
      }
    }
  }

  private static let cookieHeader = Array("cookie".utf8)

  private static func cookieHash(_ name: [UInt8], of request: some RequestView) -> UInt64? {
    request.withBytes { bytes in
      cookieValue(name, of: request, bytes).map { StableHash.hash(bytes.extracting($0)) }
    }
  }

  /// Where the value of a cookie stands, without the quotes around it.
  static func cookieValue(_ name: [UInt8], of request: some RequestView, _ bytes: Span<UInt8>) -> Range<Int>? {
    var cursor = 0
    while let range = request.nextHeader(named: cookieHeader, from: &cursor) {
      var start = range.lowerBound
      while start < range.upperBound {
        var end = start
        while end < range.upperBound, bytes[end] != 0x3B { end += 1 }
        while start < end, bytes[start] == 0x20 { start += 1 }
        if end - start > name.count, bytes[start + name.count] == 0x3D,
          Bytes.hasPrefix(bytes.extracting(start..<end), name.span)
        {
          return unquoted((start + name.count + 1)..<end, bytes)
        }
        start = end + 1
      }
    }
    return nil
  }

  /// The range without the double quotes around it.
  private static func unquoted(_ range: Range<Int>, _ bytes: Span<UInt8>) -> Range<Int> {
    guard range.count >= 2, bytes[range.lowerBound] == 0x22, bytes[range.upperBound - 1] == 0x22 else { return range }
    return (range.lowerBound + 1)..<(range.upperBound - 1)
  }

  private static func cookie(
    name: [UInt8], path: String, ttl: Duration, _ attributes: [String], draws: inout SeededGenerator
  ) -> StickyKey {
    var value: [UInt8] = []
    value.appendHex(draws.next() | 1 << 63)
    var cookie = name
    cookie.append(contentsOf: "=\"".utf8)
    cookie.append(contentsOf: value)
    cookie.append(0x22)
    if ttl > .zero { cookie.append(contentsOf: "; Max-Age=\(ttl.components.seconds)".utf8) }
    if !path.isEmpty { cookie.append(contentsOf: "; Path=\(path)".utf8) }
    for attribute in attributes { cookie.append(contentsOf: "; \(attribute)".utf8) }
    if !attributes.contains(where: { $0.lowercased() == "httponly" }) { cookie.append(contentsOf: "; HttpOnly".utf8) }
    return .newCookie(hash: StableHash.hash(value.span), setCookie: cookie)
  }
}
