import Primitives

/// Parses HTTP/1.1 request heads strictly (RFC 9112): what is not exactly right is refused, never repaired.
public struct RequestParser: Sendable {
  public struct Options: Hashable, Sendable {
    public var limits = MessageLimits()
    public var normalization = PathNormalization.base
    /// Gateways refuse `_` in field names: servers behind them may read it as `-`.
    public var allowUnderscores = true
    /// HTTP/1.0 is refused with 426, as Istio does, unless this is set.
    public var allowHTTP10 = false
    public init() {}
  }

  public let options: Options
  private var scanner = HeadScanner()
  private var blankBytes = 0

  public init(options: Options = Options()) { self.options = options }

  /// Forgets a partly seen head.
  public mutating func reset() {
    scanner.reset()
    blankBytes = 0
  }

  /// Parses the head that starts at `start`; pass the same `start` with more bytes until it is complete.
  ///
  /// - Returns: how many bytes the head took, or nil when more are needed.
  /// - Throws: `MessageError`; answer its status and close.
  public mutating func parse(
    _ bytes: Span<UInt8>, from start: Int, into head: inout RequestHead
  ) throws(MessageError) -> Int? {
    guard start >= 0, start <= bytes.count else { return nil }
    if blankBytes == 0, !(try skipBlankLine(bytes, start)) { return nil }
    let offset = blankBytes == 2 ? 2 : 0
    guard let length = try scanner.end(of: bytes, from: start + offset, limits: options.limits) else { return nil }
    head.headers.removeAll()
    head.headers.bytes.append(bytes.extracting((start + offset)..<(start + offset + length)))
    reset()
    head.receivedBytes = length
    try parse(into: &head)
    return length + offset
  }

  /// RFC 9112 2.2 lets a server skip one empty line before a request line; a second one is refused as a request line.
  private mutating func skipBlankLine(_ bytes: Span<UInt8>, _ start: Int) throws(MessageError) -> Bool {
    guard start < bytes.count else { return false }
    guard bytes[start] == 0x0D else {
      guard ByteClass.has(bytes[start], ByteClass.token) else { throw MessageError(.malformedStartLine) }
      blankBytes = 1
      return true
    }
    guard start + 1 < bytes.count else { return false }
    guard bytes[start + 1] == 0x0A else { throw MessageError(.bareCarriageReturnOrLineFeed) }
    blankBytes = 2
    return true
  }

  private func parse(into head: inout RequestHead) throws(MessageError) {
    let end = head.headers.bytes.count
    let line = try startLine(&head)
    try head.headers.parseFields(
      from: line.end, to: end, limit: options.limits.fields, allowUnderscores: options.allowUnderscores)
    try checkVersion(&head, line.version)
    try parseTarget(line.target, &head)
    head.framing = try head.headers.framing()
    if head.version == .http10, head.framing == .chunked { throw MessageError(.transferEncodingInHTTP10) }
    let connection = try head.headers.connectionOptions()
    head.keepsAlive = head.version == .http11 ? !connection.close : connection.keepAlive && !connection.close
    try checkExpectation(&head)
    head.wantsUpgrade = connection.upgrade && head.headers.contains(.upgrade) && !head.headers.upgradesHTTP
    if head.wantsUpgrade || head.method == .connect, head.framing != .none { throw MessageError(.upgradeWithBody) }
  }

  private struct StartLine {
    var target: Range<Int>
    var version: Range<Int>
    var end: Int
  }

  /// `method SP request-target SP HTTP-version CRLF`, with exactly one blank at both places (RFC 9112 3).
  private func startLine(_ head: inout RequestHead) throws(MessageError) -> StartLine {
    let text = head.headers.bytes
    let bytes = text.span
    var at = 0
    while at < bytes.count, ByteClass.has(bytes[at], ByteClass.token) { at += 1 }
    guard at > 0, at <= 32, at < bytes.count, bytes[at] == 0x20 else { throw MessageError(.malformedStartLine) }
    head.methodName = 0..<at
    head.method = HTTPMethod(bytes.extracting(0..<at))
    at += 1
    let targetStart = at
    while at < bytes.count, ByteClass.has(bytes[at], ByteClass.target) { at += 1 }
    guard at < bytes.count else { throw MessageError(.malformedStartLine) }
    if bytes[at] == 0x23 { throw MessageError(.fragmentInTarget) }
    guard at > targetStart, bytes[at] == 0x20 else { throw MessageError(.malformedStartLine) }
    let target = targetStart..<at
    at += 1
    guard at + 10 <= bytes.count, bytes[at + 8] == 0x0D, bytes[at + 9] == 0x0A else { throw MessageError(.malformedStartLine) }
    return StartLine(target: target, version: at..<(at + 8), end: at + 10)
  }

  private func checkVersion(_ head: inout RequestHead, _ range: Range<Int>) throws(MessageError) {
    guard let (major, minor) = httpVersion(head.headers.bytes.span.extracting(range)) else {
      throw MessageError(.malformedStartLine)
    }
    switch (major, minor) {
    case (1, 1): head.version = .http11
    case (1, 0):
      if head.headers.contains(.transferEncoding) { throw MessageError(.transferEncodingInHTTP10) }
      guard options.allowHTTP10 else { throw MessageError(.lowVersion, status: 426) }
      head.version = .http10
    default: throw MessageError(.unsupportedVersion, status: 505)
    }
  }

  func checkExpectation(_ head: inout RequestHead) throws(MessageError) {
    head.expectsContinue = false
    guard let value = head.headers.value(.expect) else { return }
    guard Bytes.equalIgnoringCase(head.headers.bytes.span.extracting(value), "100-continue") else {
      throw MessageError(.unknownExpectation, status: 417)
    }
    head.expectsContinue = head.version != .http10
  }
}

/// `HTTP/d.d`, or nil.
func httpVersion(_ bytes: Span<UInt8>) -> (UInt8, UInt8)? {
  guard bytes.count == 8, bytes[0] == 0x48, bytes[1] == 0x54, bytes[2] == 0x54, bytes[3] == 0x50, bytes[4] == 0x2F,
    ASCII.isDigit(bytes[5]), bytes[6] == 0x2E,
    ASCII.isDigit(bytes[7])
  else { return nil }
  return (bytes[5] - 0x30, bytes[7] - 0x30)
}
