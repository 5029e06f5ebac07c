import Primitives

/// One request as everybody sees it: routing, authorisation, logging and forwarding read these same bytes.
///
/// All ranges point into `headers.bytes`. The value is reused from request to request and keeps its storage.
/// Bytes of a range, without copying: `let span = head.headers.bytes.span.extracting(head.path)`.
public struct RequestHead: Sendable {
  public var headers = HeaderBlock()
  public internal(set) var method: HTTPMethod = .get
  /// The method as sent, for methods we do not know and for logs.
  public internal(set) var methodName: Range<Int> = 0..<0
  public internal(set) var form: TargetForm = .origin
  /// The canonical path without query; `*` for asterisk-form, empty for authority-form.
  public internal(set) var path: Range<Int> = 0..<0
  /// The bytes after `?`, or nil when there is no `?`. Never changed.
  public internal(set) var query: Range<Int>?
  /// Path, `?` and query as they are forwarded and logged (contiguous).
  public internal(set) var target: Range<Int> = 0..<0
  /// Canonical authority: lower-case host without trailing dot, and `:port` as sent.
  public internal(set) var authority: Range<Int> = 0..<0
  /// The host part of `authority`.
  public internal(set) var host: Range<Int> = 0..<0
  public internal(set) var port: UInt16?
  public internal(set) var version: HTTPVersion = .http11
  public internal(set) var framing: BodyFraming = .none
  /// The client lets the connection serve another request after this one.
  public internal(set) var keepsAlive = true
  /// `Expect: 100-continue` was sent.
  public internal(set) var expectsContinue = false
  /// `Connection: upgrade` with an `Upgrade` field was sent.
  public internal(set) var wantsUpgrade = false
  /// `http` or `https`: what the target says, else `http`, unless a TLS listener sets it.
  public internal(set) var scheme: Range<Int> = 0..<0
  /// Bytes of the head as received.
  public internal(set) var receivedBytes = 0

  public init() {}

  public var bytes: [UInt8] { headers.bytes }

  /// Replaces path and query. False, and no change, when the bytes cannot stand in a request line.
  @discardableResult
  public mutating func setTarget(path newPath: [UInt8], query newQuery: [UInt8]?) -> Bool {
    guard newPath.first == 0x2F, Self.isTarget(newPath.span), newQuery.map({ Self.isTarget($0.span) }) ?? true else {
      return false
    }
    path = headers.append(newPath.span)
    query = nil
    if let newQuery {
      _ = headers.append([0x3F].span)
      query = headers.append(newQuery.span)
    }
    target = path.lowerBound..<(query?.upperBound ?? path.upperBound)
    return true
  }

  /// Replaces the authority. False, and no change, when it is not one.
  @discardableResult
  public mutating func setAuthority(_ new: [UInt8]) -> Bool {
    guard let parts = try? AuthorityParts(new.span) else { return false }
    let range = headers.append(new.span)
    authority = range
    host = range.lowerBound..<(range.lowerBound + parts.host.count)
    port = parts.port
    headers.remove(.host)
    return true
  }

  /// The body will not be as long as it was announced: it is being translated.
  public mutating func forgetLength() {
    headers.remove(.contentLength)
    if case .length = framing { framing = .chunked }
  }

  public mutating func setScheme(secure: Bool) {
    scheme = headers.append((secure ? Self.https : Self.http).span)
  }
  private static let http = Array("http".utf8)
  private static let https = Array("https".utf8)

  private static func isTarget(_ bytes: Span<UInt8>) -> Bool {
    for i in bytes.indices where !ByteClass.has(bytes[i], ByteClass.target) { return false }
    return true
  }

  /// Appends the head as it goes upstream: origin-form target, one `Host`, the remaining fields, the empty line.
  ///
  /// - Parameter chunked: adds `Transfer-Encoding: chunked`; the received one was removed as hop-by-hop.
  public func write(into output: inout [UInt8], chunked: Bool) {
    let span = headers.bytes.span
    output.append(span.extracting(methodName))
    output.append(0x20)
    output.append(span.extracting(target))
    output.append(" HTTP/1.1\r\n")
    if !headers.contains(.host) {
      output.append("host: ")
      output.append(span.extracting(authority))
      output.append("\r\n")
    }
    if chunked { output.append("transfer-encoding: chunked\r\n") }
    headers.write(into: &output)
  }
}
