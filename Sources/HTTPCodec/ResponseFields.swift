import Primitives

/// Builds a response head from the decoded fields of an HTTP/2 response (RFC 9113 8.3.2).
///
/// A length that is not announced is `.chunked`; a response that ends with its head and announces nothing, although it
/// could have a body, is `.length(0)`, so that HTTP/1 says so.
public struct ResponseFields: Sendable {
  private let limits: MessageLimits
  private var hasStatus = false
  private var sawRegularField = false
  private var size = DecodedSize()

  public init(limits: MessageLimits = MessageLimits()) { self.limits = limits }

  public mutating func begin(_ head: inout ResponseHead) {
    head.headers.removeAll()
    head.status = 0
    hasStatus = false
    sawRegularField = false
    size = DecodedSize()
  }

  /// - Throws: `MessageError` with status 502.
  public mutating func add(
    name: Span<UInt8>, value: Span<UInt8>, to head: inout ResponseHead
  ) throws(MessageError) {
    do throws(MessageError) {
      try append(name, value, &head)
    } catch {
      throw MessageError(error.reason, status: 502)
    }
  }

  private mutating func append(
    _ name: Span<UInt8>, _ value: Span<UInt8>, _ head: inout ResponseHead
  ) throws(MessageError) {
    try size.count(name: name.count, value: value.count, limit: limits.headBytes)
    if name.count > 0, name[0] == 0x3A {
      guard !sawRegularField, !hasStatus, Bytes.equal(name, Self.statusName), value.count == 3 else {
        throw MessageError(.malformedPseudoHeader)
      }
      var status = 0
      for i in value.indices {
        guard ASCII.isDigit(value[i]) else { throw MessageError(.malformedPseudoHeader) }
        status = status * 10 + Int(value[i] - 0x30)
      }
      guard status >= 100, status != 101 else { throw MessageError(.malformedPseudoHeader) }
      head.status = status
      hasStatus = true
      return
    }
    sawRegularField = true
    let known = try head.headers.addDecoded(name: name, value: value, limits: limits, allowUnderscores: true)
    switch known {
    case .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade, .te:
      try HeaderBlock.checkConnectionSpecific(known, value)
    default: break
    }
  }
  private static let statusName = Array(":status".utf8)

  /// - Parameters:
  ///   - method: of the request it answers.
  ///   - upgrade: the protocol an extended CONNECT asked for; its 2xx becomes the 101 of HTTP/1 (RFC 8441 5).
  ///   - ends: the stream ended with this section.
  public func finish(
    _ head: inout ResponseHead, answering method: HTTPMethod, upgrade: [UInt8]?, ends: Bool
  ) throws(MessageError) {
    guard hasStatus, !(ends && head.status < 200) else { throw MessageError(.malformedPseudoHeader, status: 502) }
    head.version = .http2
    head.keepsAlive = true
    head.receivedBytes = size.bytes
    if head.status < 200 || head.status == 204 { head.headers.remove(.contentLength) }
    head.framing = try framing(head, answering: method, ends: ends)
    if let upgrade, (200..<300).contains(head.status) {
      head.status = 101
      head.framing = .none
      head.headers.remove(.contentLength)
      if let name = Self.upgradeName { head.headers.add(name, upgrade.span) }
    }
    head.reason = head.headers.append(Self.phrase(head.status).span)
  }

  private func framing(
    _ head: ResponseHead, answering method: HTTPMethod, ends: Bool
  ) throws(MessageError) -> BodyFraming {
    if method == .head || head.status < 200 || head.status == 204 || head.status == 304 { return .none }
    if method == .connect, (200..<300).contains(head.status) { return .none }
    do throws(MessageError) {
      let framing = try head.headers.decodedFraming(ends: ends)
      return ends && !head.headers.contains(.contentLength) ? .length(0) : framing
    } catch {
      throw MessageError(error.reason, status: 502)
    }
  }

  private static func phrase(_ status: Int) -> [UInt8] {
    phrases.indices.contains(status) ? phrases[status] : []
  }
  private static let phrases: [[UInt8]] = (0..<600).map { Array(StatusReason.phrase($0).utf8) }
  private static let upgradeName = HeaderName(.upgrade)
}

/// Builds a trailer section from decoded fields (RFC 9113 8.1): no pseudo-header, and no name that has no place there.
public struct TrailerFields: Sendable {
  private let limits: MessageLimits
  private var size = DecodedSize()

  public init(limits: MessageLimits = MessageLimits()) { self.limits = limits }

  public mutating func begin(_ trailers: inout HeaderBlock) {
    trailers.removeAll()
    size = DecodedSize()
  }

  public mutating func add(
    name: Span<UInt8>, value: Span<UInt8>, to trailers: inout HeaderBlock
  ) throws(MessageError) {
    try size.count(name: name.count, value: value.count, limit: limits.trailerBytes)
    let known = try trailers.addDecoded(name: name, value: value, limits: limits, allowUnderscores: true)
    try HeaderBlock.checkConnectionSpecific(known, value)
  }

  public func finish(_ trailers: inout HeaderBlock) { trailers.removeForbiddenTrailers() }
}
