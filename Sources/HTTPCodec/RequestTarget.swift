import Primitives

extension RequestParser {
  /// Takes the target apart by its form (RFC 9112 3.2), makes the path canonical and settles the one authority.
  func parseTarget(_ raw: Range<Int>, _ head: inout RequestHead) throws(MessageError) {
    let host = try soleHost(head)
    head.query = nil
    head.setScheme(secure: false)
    let first = head.headers.bytes[raw.lowerBound]
    if head.method == .connect {
      head.form = .authority
      head.path = raw.lowerBound..<raw.lowerBound
      head.target = raw
      try setAuthority(raw, from: &head, isHostField: false)
      guard head.port != nil else { throw MessageError(.malformedTarget) }
    } else if first == 0x2F {
      head.form = .origin
      try setPath(raw, &head)
      try setAuthority(host, from: &head, isHostField: true)
    } else if first == 0x2A {
      guard raw.count == 1, head.method == .options else { throw MessageError(.malformedTarget) }
      head.form = .asterisk
      head.path = raw
      head.target = raw
      try setAuthority(host, from: &head, isHostField: true)
    } else {
      try parseAbsolute(raw, &head)
    }
  }

  /// RFC 9112 3.2: a request without exactly one valid `Host` is a bad request, whatever its target says.
  private func soleHost(_ head: RequestHead) throws(MessageError) -> Range<Int> {
    var host: Range<Int>?
    for field in head.headers.fields where field.known == .host {
      if host != nil { throw MessageError(.repeatedHost) }
      host = field.value
    }
    guard let host else { throw MessageError(.missingHost) }
    _ = try AuthorityParts(head.headers.bytes.span.extracting(host))
    return host
  }

  /// `http://authority/path?query`: the target's authority replaces the `Host` field (RFC 9112 3.2.2).
  private func parseAbsolute(_ raw: Range<Int>, _ head: inout RequestHead) throws(MessageError) {
    let received = head.headers.bytes
    let bytes = received.span
    let text = bytes.extracting(raw)
    let schemeLength: Int
    if text.count > 7, Bytes.equalIgnoringCase(text.extracting(0..<7), "http://") {
      schemeLength = 4
    } else if text.count > 8, Bytes.equalIgnoringCase(text.extracting(0..<8), "https://") {
      schemeLength = 5
    } else {
      throw MessageError(.malformedTarget)
    }
    let start = raw.lowerBound + schemeLength + 3
    var end = start
    while end < raw.upperBound, bytes[end] != 0x2F, bytes[end] != 0x3F { end += 1 }
    let hasPath = end < raw.upperBound && bytes[end] == 0x2F
    head.form = .absolute
    head.setScheme(secure: schemeLength == 5)
    if hasPath {
      try setPath(end..<raw.upperBound, &head)
    } else {
      let query = end < raw.upperBound ? Array(head.headers.bytes[(end + 1)..<raw.upperBound]) : nil
      guard head.setTarget(path: [0x2F], query: query) else { throw MessageError(.malformedTarget) }
    }
    try setAuthority(start..<end, from: &head, isHostField: false)
  }

  func setPath(_ raw: Range<Int>, _ head: inout RequestHead) throws(MessageError) {
    let received = head.headers.bytes
    let bytes = received.span
    var end = raw.lowerBound
    while end < raw.upperBound, bytes[end] != 0x3F { end += 1 }
    let rawPath = raw.lowerBound..<end
    if let canonical = try options.normalization.canonical(bytes.extracting(rawPath)) {
      let query = end < raw.upperBound ? Array(head.headers.bytes[(end + 1)..<raw.upperBound]) : nil
      guard head.setTarget(path: canonical, query: query) else { throw MessageError(.malformedTarget) }
    } else {
      head.path = rawPath
      head.query = end < raw.upperBound ? (end + 1)..<raw.upperBound : nil
      head.target = raw
    }
  }

  /// Makes `raw` the authority in canonical form; the `Host` field stays only where it already says exactly that.
  func setAuthority(_ raw: Range<Int>, from head: inout RequestHead, isHostField: Bool) throws(MessageError) {
    let parts = try AuthorityParts(head.headers.bytes.span.extracting(raw))
    head.port = parts.port
    if parts.isCanonical {
      head.authority = raw
    } else {
      var canonical: [UInt8] = []
      canonical.reserveCapacity(raw.count)
      for i in parts.host { canonical.append(ASCII.lowercased(head.headers.bytes[raw.lowerBound + i])) }
      if let port = parts.port {
        canonical.append(0x3A)
        canonical.appendDecimal(UInt64(port))
      }
      head.authority = head.headers.append(canonical.span)
    }
    head.host = head.authority.lowerBound..<(head.authority.lowerBound + parts.host.count)
    if !isHostField || !parts.isCanonical { head.headers.remove(.host) }
  }
}
