import Primitives

/// One response head; ranges point into `headers.bytes`.
public struct ResponseHead: Sendable {
  public var headers = HeaderBlock()
  public internal(set) var version: HTTPVersion = .http11
  /// 100–999.
  public internal(set) var status = 0
  public internal(set) var reason: Range<Int> = 0..<0
  public internal(set) var framing: BodyFraming = .none
  /// The server lets the connection serve another request after this one.
  public internal(set) var keepsAlive = true
  public internal(set) var receivedBytes = 0

  public init() {}

  /// Makes this the head of an answer of our own, without any field yet; storage is kept.
  public mutating func begin(status: Int, framing: BodyFraming) {
    headers.removeAll()
    version = .http11
    self.status = max(100, min(999, status))
    self.framing = framing
    keepsAlive = true
    receivedBytes = 0
    reason = headers.append(Array(StatusReason.phrase(self.status).utf8).span)
  }

  /// The body will not be as long as it was announced: it is being translated.
  public mutating func forgetLength() {
    if framing == .length(0) { return }
    headers.remove(.contentLength)
    if case .length = framing { framing = .chunked }
  }

  /// Interim responses (RFC 9110 15.2) come before the final one; 101 ends HTTP on the connection.
  public var isInterim: Bool { status >= 100 && status < 200 && status != 101 }

  /// Appends the head as it goes downstream.
  public func write(into output: inout [UInt8], chunked: Bool, close: Bool) {
    output.append("HTTP/1.1 ")
    output.appendDecimal(UInt64(status))
    output.append(0x20)
    output.append(headers.bytes.span.extracting(reason))
    output.append("\r\n")
    if chunked { output.append("transfer-encoding: chunked\r\n") }
    if close { output.append("connection: close\r\n") }
    if framing == .length(0), !headers.contains(.contentLength) {
      output.append(contentsOf: "content-length: 0\r\n".utf8)
    }
    headers.write(into: &output)
  }
}

/// Parses HTTP/1.x response heads strictly; every error means 502 and the end of the upstream connection.
public struct ResponseParser: Sendable {
  public let limits: MessageLimits
  private var scanner = HeadScanner()

  public init(limits: MessageLimits = MessageLimits()) { self.limits = limits }

  public mutating func reset() { scanner.reset() }

  /// Parses the head that starts at `start`; pass the same `start` with more bytes until it is complete.
  ///
  /// - Parameter method: of the request it answers; a response to HEAD has no body whatever it announces.
  /// - Returns: how many bytes the head took, or nil when more are needed.
  public mutating func parse(
    _ bytes: Span<UInt8>, from start: Int, answering method: HTTPMethod,
    into head: inout ResponseHead
  ) throws(MessageError) -> Int? {
    guard start >= 0, start < bytes.count else { return nil }
    guard bytes[start] == 0x48 else { throw MessageError(.malformedStatusLine, status: 502) }
    guard let length = try scanner.end(of: bytes, from: start, limits: limits) else { return nil }
    scanner.reset()
    head.headers.removeAll()
    head.headers.bytes.append(bytes.extracting(start..<(start + length)))
    head.receivedBytes = length
    let fields = try statusLine(&head)
    try head.headers.parseFields(
      from: fields, to: length, limit: limits.fields, allowUnderscores: true)
    try settleFraming(&head, answering: method)
    return length
  }

  /// `HTTP-version SP status-code SP [reason-phrase] CRLF` (RFC 9112 4); a missing second blank is accepted.
  private func statusLine(_ head: inout ResponseHead) throws(MessageError) -> Int {
    let text = head.headers.bytes
    let bytes = text.span
    let malformed = MessageError(.malformedStatusLine, status: 502)
    guard bytes.count >= 14, bytes[8] == 0x20, let version = httpVersion(bytes.extracting(0..<8)),
      version.0 == 1
    else {
      throw malformed
    }
    var status = 0
    for i in 9..<12 {
      guard ASCII.isDigit(bytes[i]) else { throw malformed }
      status = status * 10 + Int(bytes[i] - 0x30)
    }
    guard status >= 100 else { throw malformed }
    var at = 12
    if bytes[at] == 0x20 { at += 1 } else if bytes[at] != 0x0D { throw malformed }
    let reasonStart = at
    at = bytes.firstNonValue(from: at, to: bytes.count)
    guard at + 1 < bytes.count, bytes[at] == 0x0D, bytes[at + 1] == 0x0A else { throw malformed }
    head.version = version.1 == 0 ? .http10 : .http11
    head.status = status
    head.reason = reasonStart..<at
    return at + 2
  }

  private func settleFraming(_ head: inout ResponseHead, answering method: HTTPMethod)
    throws(MessageError)
  {
    let announced = try head.headers.framing()
    if head.version == .http10, announced == .chunked {
      throw MessageError(.transferEncodingInHTTP10, status: 502)
    }
    let connection = try head.headers.connectionOptions()
    head.keepsAlive =
      head.version == .http11 ? !connection.close : connection.keepAlive && !connection.close
    if method == .head || head.status < 200 || head.status == 204 || head.status == 304 {
      // RFC 9110 8.6: a length that no 1xx or 204 may have would mislead whoever believes it.
      if head.status < 200 || head.status == 204 { head.headers.remove(.contentLength) }
      head.framing = .none
    } else if announced == .none, !head.headers.contains(.contentLength) {
      head.framing = .untilClose
      head.keepsAlive = false
    } else {
      head.framing = announced
    }
  }
}
