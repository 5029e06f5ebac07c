import HTTPCodec
import Primitives

/// A request as the decisions see it: ranges over bytes somebody else owns, so that looking copies nothing.
///
/// All ranges index the span that `withBytes` gives. What is seen here is canonical: the same bytes are authorised,
/// routed, logged and forwarded.
public protocol RequestView {
  func withBytes<Result>(_ body: (Span<UInt8>) -> Result) -> Result
  /// The method as sent.
  var methodName: Range<Int> { get }
  /// Without query and fragment.
  var path: Range<Int> { get }
  /// Without the question mark; nil when there is none.
  var query: Range<Int>? { get }
  /// Path, question mark and query.
  var target: Range<Int> { get }
  /// Host as sent, port included.
  var authority: Range<Int> { get }
  /// The host part of the authority, without a trailing dot.
  var host: Range<Int> { get }
  var port: UInt16? { get }
  /// The next value of the field with this lower-case name at or after `cursor`, which starts at 0 and is moved on.
  func nextHeader(named name: [UInt8], from cursor: inout Int) -> Range<Int>?
}

/// What the connection says about a request, beside its bytes.
public struct RequestContext: Hashable, Sendable {
  /// The service port the request is for on the mesh, the listener's port on a gateway.
  public var port: UInt16
  /// Whether the client's connection is TLS (`https`) or plaintext.
  public var isHTTPS: Bool
  /// The service that the connection was opened for, in lower case; nil where the request's own host says it.
  public var host: [UInt8]?

  public init(port: UInt16, isHTTPS: Bool = false) {
    self.port = port
    self.isHTTPS = isHTTPS
  }

  var scheme: [UInt8] { isHTTPS ? Self.https : Self.http }
  private static let http = Array("http".utf8)
  private static let https = Array("https".utf8)
}

extension RequestHead: RequestView {
  public func withBytes<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(headers.bytes.span) }

  public func nextHeader(named name: [UInt8], from cursor: inout Int) -> Range<Int>? {
    let fields = headers.fields
    while cursor < fields.count {
      let field = fields[cursor]
      cursor += 1
      guard !field.isRemoved, field.name.count == name.count else { continue }
      if Bytes.equalIgnoringCase(headers.bytes.span.extracting(field.name), lowercased: name.span) { return field.value }
    }
    return nil
  }
}
