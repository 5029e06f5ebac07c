import HTTPCodec
import MeshConfig
import Primitives

/// What a client carries from request to request of a session: the endpoint, and how long the session lasts. Nothing secret
/// is in it, and nothing is believed but that the endpoint is preferred where it is one of those that the route leads to.
public struct SessionToken: Hashable, Sendable {
  public let endpoint: UInt64
  /// Unix seconds after which there is no session any more; 0: none.
  public let expires: UInt64
  /// The same unless another request comes.
  public let idleUntil: UInt64

  /// The beginning of a session, or another request of one.
  ///
  /// - Parameter token: of the session; nil begins one.
  public init(_ session: SessionPersistence, at endpoint: UInt64, after token: SessionToken?, now: UInt64) {
    self.endpoint = endpoint
    expires = token?.expires ?? session.absoluteTimeout.map { now &+ $0.wholeSeconds } ?? 0
    idleUntil = session.idleTimeout.map { now &+ $0.wholeSeconds } ?? 0
  }

  /// Of the session that a request belongs to; nil when it belongs to none, or that is over.
  public init?(_ request: some RequestView, _ session: SessionPersistence, now: UInt64) {
    let found = request.withBytes { bytes -> SessionToken? in
      let range: Range<Int>?
      switch session.carrier {
      case .header:
        var cursor = 0
        range = request.nextHeader(named: session.name, from: &cursor)
      case .cookie: range = StickyKey.cookieValue(session.name, of: request, bytes)
      }
      return range.flatMap { SessionToken(bytes.extracting($0)) }
    }
    guard let found, !found.isOver(now) else { return nil }
    self = found
  }

  private func isOver(_ now: UInt64) -> Bool { expires != 0 && now >= expires || idleUntil != 0 && now >= idleUntil }

  /// Three numbers in hexadecimal digits with points between.
  init?(_ text: Span<UInt8>) {
    var numbers: (UInt64, UInt64, UInt64) = (0, 0, 0)
    var (part, digits) = (0, 0)
    for index in text.indices {
      if text[index] == 0x2E {
        guard digits > 0, part < 2 else { return nil }
        (part, digits) = (part + 1, 0)
        continue
      }
      guard let digit = Self.digit(text[index]), digits < 16 else { return nil }
      digits += 1
      switch part {
      case 0: numbers.0 = numbers.0 << 4 | digit
      case 1: numbers.1 = numbers.1 << 4 | digit
      default: numbers.2 = numbers.2 << 4 | digit
      }
    }
    guard part == 2, digits > 0 else { return nil }
    (endpoint, expires, idleUntil) = numbers
  }

  private static func digit(_ byte: UInt8) -> UInt64? {
    switch byte {
    case 0x30...0x39: UInt64(byte - 0x30)
    case 0x61...0x66: UInt64(byte - 0x61 + 10)
    default: nil
    }
  }

  var text: String {
    [endpoint, expires, idleUntil].map { String($0, radix: 16) }.joined(separator: ".")
  }

  /// The value of the field that tells it: `set-cookie`, or the session's own.
  public func field(of session: SessionPersistence, now: UInt64) -> [UInt8] {
    guard case .cookie(let path) = session.carrier else { return Array(text.utf8) }
    let age = session.isPermanent && expires > now ? "; Max-Age=\(expires - now)" : ""
    return session.name + Array("=\"\(text)\"\(age); Path=\(path); HttpOnly".utf8)
  }
}

extension Duration {
  fileprivate var wholeSeconds: UInt64 { UInt64(clamping: components.seconds) }
}
