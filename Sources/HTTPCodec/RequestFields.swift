import Primitives

/// Builds a canonical request head from the decoded fields of an HTTP/2 request (RFC 9113 8.3.1), by the rules that
/// `RequestParser` keeps for HTTP/1.
///
/// One value serves one connection: field sections never interleave. Call `begin`, `add` for each field, `finish`.
///
/// An extended CONNECT (RFC 8441) becomes what HTTP/1 calls an upgrade: method GET, `wantsUpgrade`, an `Upgrade` field
/// with the protocol. A plain CONNECT has authority-form. A length that is not announced is `.chunked`.
public struct RequestFields: Sendable {
  private enum Pseudo: Int {
    case method, scheme, authority, path, protocolName
  }

  private let parser: RequestParser
  private var pseudo: [Range<Int>?] = Array(repeating: nil, count: 5)
  private var sawRegularField = false
  private var crumbs = CookieCrumbs()
  private var size = DecodedSize()

  public init(options: RequestParser.Options = RequestParser.Options()) { parser = RequestParser(options: options) }

  public mutating func begin(_ head: inout RequestHead) {
    head.headers.removeAll()
    for i in pseudo.indices { pseudo[i] = nil }
    sawRegularField = false
    crumbs.removeAll()
    size = DecodedSize()
  }

  /// - Throws: `MessageError`. `isMalformedHTTP2` tells a stream error from a request to be answered with its status.
  public mutating func add(
    name: Span<UInt8>, value: Span<UInt8>, to head: inout RequestHead
  ) throws(MessageError) {
    try size.count(name: name.count, value: value.count, limit: parser.options.limits.headBytes)
    if name.count > 0, name[0] == 0x3A { return try addPseudo(name, value, &head) }
    sawRegularField = true
    let known = try head.headers.addDecoded(
      name: name, value: value, limits: parser.options.limits, allowUnderscores: parser.options.allowUnderscores)
    switch known {
    case .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade, .te:
      try HeaderBlock.checkConnectionSpecific(known, value)
    case .cookie: crumbs.add(to: &head.headers)
    default: break
    }
  }

  private mutating func addPseudo(
    _ name: Span<UInt8>, _ value: Span<UInt8>, _ head: inout RequestHead
  ) throws(MessageError) {
    guard !sawRegularField, let kind = Self.pseudo(name), pseudo[kind.rawValue] == nil else {
      throw MessageError(.malformedPseudoHeader)
    }
    try HeaderBlock.checkDecoded(value)
    pseudo[kind.rawValue] = head.headers.append(value)
  }

  private static func pseudo(_ name: Span<UInt8>) -> Pseudo? {
    switch name.count {
    case 5: isExactly(name, ":path") ? .path : nil
    case 7:
      if isExactly(name, ":method") { .method } else if isExactly(name, ":scheme") { .scheme } else { nil }
    case 9: isExactly(name, ":protocol") ? .protocolName : nil
    case 10: isExactly(name, ":authority") ? .authority : nil
    default: nil
    }
  }

  private static func isExactly(_ name: Span<UInt8>, _ text: StaticString) -> Bool {
    text.withUTF8Buffer { other in
      for i in name.indices where unsafe name[i] != other[i] { return false }
      return true
    }
  }

  /// Settles target, authority and framing once the section is complete.
  ///
  /// - Parameter ends: the stream ended with this section.
  public mutating func finish(_ head: inout RequestHead, ends: Bool) throws(MessageError) {
    crumbs.finish(&head.headers)
    head.version = .http2
    head.keepsAlive = true
    head.wantsUpgrade = false
    head.query = nil
    head.receivedBytes = size.bytes
    try settleMethod(&head)
    let host = try soleAuthority(head)
    let extended = pseudo[Pseudo.protocolName.rawValue]
    if head.method == .connect, extended == nil {
      try settleConnect(&head, host)
    } else {
      try settleTarget(&head, host)
    }
    head.headers.remove(.host)
    head.framing = try head.headers.decodedFraming(ends: ends)
    try parser.checkExpectation(&head)
    if let extended { try becomeUpgrade(&head, extended) }
  }

  private func settleMethod(_ head: inout RequestHead) throws(MessageError) {
    guard let name = pseudo[Pseudo.method.rawValue] else { throw MessageError(.malformedPseudoHeader) }
    let text = head.headers.bytes
    guard name.count <= 32, Bytes.isToken(text.span.extracting(name)) else { throw MessageError(.malformedPseudoHeader) }
    head.methodName = name
    head.method = HTTPMethod(text.span.extracting(name))
    guard pseudo[Pseudo.protocolName.rawValue] == nil || head.method == .connect else {
      throw MessageError(.malformedPseudoHeader)
    }
  }

  /// `:authority`, or the `Host` field where it is missing; two that differ are a bad request (RFC 9113 8.3.1).
  private func soleAuthority(_ head: RequestHead) throws(MessageError) -> Range<Int> {
    var host: Range<Int>?
    for field in head.headers.fields where field.known == .host {
      if host != nil { throw MessageError(.repeatedHost) }
      host = field.value
    }
    let text = head.headers.bytes
    guard let authority = pseudo[Pseudo.authority.rawValue] else {
      guard let host, head.method != .connect else { throw MessageError(.missingHost) }
      return host
    }
    if let host, !Bytes.equalIgnoringCase(text.span.extracting(host), text.span.extracting(authority)) {
      throw MessageError(.authorityMismatch)
    }
    return authority
  }

  /// RFC 9113 8.5: CONNECT has an authority with a port, and neither scheme nor path.
  private func settleConnect(_ head: inout RequestHead, _ authority: Range<Int>) throws(MessageError) {
    guard pseudo[Pseudo.scheme.rawValue] == nil, pseudo[Pseudo.path.rawValue] == nil else {
      throw MessageError(.malformedPseudoHeader)
    }
    if head.headers.contains(.contentLength) { throw MessageError(.upgradeWithBody) }
    head.form = .authority
    head.setScheme(secure: false)
    head.path = authority.lowerBound..<authority.lowerBound
    head.target = authority
    try parser.setAuthority(authority, from: &head, isHostField: false)
    guard head.port != nil else { throw MessageError(.malformedTarget) }
  }

  private func settleTarget(_ head: inout RequestHead, _ authority: Range<Int>) throws(MessageError) {
    guard let scheme = pseudo[Pseudo.scheme.rawValue], let path = pseudo[Pseudo.path.rawValue], !path.isEmpty else {
      throw MessageError(.malformedPseudoHeader)
    }
    try settleScheme(&head, scheme)
    let text = head.headers.bytes
    let bytes = text.span
    for i in path {
      if bytes[i] == 0x23 { throw MessageError(.fragmentInTarget) }
      guard bytes[i] > 0x20, bytes[i] != 0x7F else { throw MessageError(.malformedTarget) }
    }
    if bytes[path.lowerBound] == 0x2A {
      guard path.count == 1, head.method == .options else { throw MessageError(.malformedTarget) }
      head.form = .asterisk
      head.path = path
      head.target = path
    } else {
      guard bytes[path.lowerBound] == 0x2F else { throw MessageError(.malformedTarget) }
      head.form = .origin
      try parser.setPath(path, &head)
    }
    try parser.setAuthority(authority, from: &head, isHostField: false)
  }

  /// The scheme in lower case; what the client claims decides nothing that concerns security.
  private func settleScheme(_ head: inout RequestHead, _ scheme: Range<Int>) throws(MessageError) {
    let text = head.headers.bytes
    let bytes = text.span.extracting(scheme)
    if Bytes.equalIgnoringCase(bytes, "http") {
      head.setScheme(secure: false)
    } else if Bytes.equalIgnoringCase(bytes, "https") {
      head.setScheme(secure: true)
    } else {
      throw MessageError(.malformedTarget)
    }
  }

  private func becomeUpgrade(_ head: inout RequestHead, _ name: Range<Int>) throws(MessageError) {
    let text = head.headers.bytes
    guard Bytes.isToken(text.span.extracting(name)), let upgrade = Self.upgrade, !head.headers.contains(.contentLength) else {
      throw MessageError(.malformedPseudoHeader)
    }
    // RFC 8441 4 leaves what is not supported to the server; RFC 9220 3 names 501 for it.
    if Bytes.isHTTPOrTLS(text.span.extracting(name)) { throw MessageError(.upgradeToHTTP, status: 501) }
    head.headers.add(upgrade, text.span.extracting(name))
    head.methodName = head.headers.append(Self.get.span)
    head.method = .get
    head.wantsUpgrade = true
    head.framing = .none
  }

  private static let upgrade = HeaderName(.upgrade)
  private static let get = Array("GET".utf8)
}

extension MessageError {
  /// The message is malformed in a way RFC 9113 8.1.1 answers with a stream error; everything else gets its status.
  public var isMalformedHTTP2: Bool {
    switch reason {
    case .malformedPseudoHeader, .connectionSpecificField, .malformedFieldName, .malformedFieldValue, .lengthMismatch,
      .malformedContentLength, .repeatedContentLength:
      true
    default: false
    }
  }
}
