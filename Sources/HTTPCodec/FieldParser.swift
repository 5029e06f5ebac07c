import Primitives

extension HeaderBlock {
  /// Parses field lines from `start` up to the empty line at the end of `bytes` (RFC 9112 5). Line ends were checked.
  mutating func parseFields(
    from start: Int, to end: Int, limit: Int, allowUnderscores: Bool
  ) throws(MessageError) {
    // A second reference to the bytes, so that fields can be appended while they are read.
    let text = bytes
    let line = text.span
    let names = KnownHeaderTable.shared
    var at = start
    while true {
      guard at + 1 < end else { throw MessageError(.malformedFieldLine) }
      if line[at] == 0x0D { return }
      guard fields.count < limit else { throw MessageError(.tooManyFields, status: 431) }
      let nameStart = at
      var hash = HeaderName.hashSeed
      var byte: UInt8 = 0
      while at < end {
        byte = line[at]
        let lowercased = ByteClass.lowercasedToken[Int(byte)]
        if lowercased == 0 { break }
        hash = HeaderName.hashed(hash, lowercased)
        at += 1
      }
      guard at < end else { throw MessageError(.malformedFieldLine) }
      guard byte == 0x3A else { throw MessageError(.malformedFieldName) }
      let nameEnd = at
      if !allowUnderscores, Bytes.contains(line.extracting(nameStart..<nameEnd), 0x5F) {
        throw MessageError(.underscoreInName)
      }
      guard nameEnd > nameStart, nameEnd - nameStart <= Int(UInt16.max) else { throw MessageError(.malformedFieldName) }
      at += 1
      let rawStart = at
      at = line.firstNonValue(from: at, to: end)
      guard at + 1 < end, line[at] == 0x0D, line[at + 1] == 0x0A else { throw MessageError(.malformedFieldValue) }
      let value = (rawStart..<at).trimmingBlanks(in: line)
      at += 2
      let known = names.find(line.extracting(nameStart..<nameEnd), hash: hash)
      append(
        HeaderField(line: nameStart..<at, nameLength: nameEnd - nameStart, value: value, known: known, hash: hash))
    }
  }

  /// Reads the framing fields of RFC 9112 6, more strictly: both, repeated or odd ones are an error, never a choice.
  func framing() throws(MessageError) -> BodyFraming {
    guard mayContain(.contentLength) || mayContain(.transferEncoding) else { return .none }
    var length: UInt64?
    var isChunked = false
    let span = bytes.span
    for field in fields where !field.isRemoved {
      switch field.known {
      case .contentLength:
        if length != nil { throw MessageError(.repeatedContentLength) }
        let digits = span.extracting(field.value)
        if Bytes.contains(digits, 0x2C) { throw MessageError(.repeatedContentLength) }
        guard let value = Bytes.decimal(digits, max: UInt64(Int64.max)) else { throw MessageError(.malformedContentLength) }
        length = value
      case .transferEncoding:
        if isChunked { throw MessageError(.malformedTransferEncoding) }
        try checkTransferEncoding(bytes[field.value])
        isChunked = true
      default: break
      }
    }
    if isChunked {
      if length != nil { throw MessageError(.lengthAndTransferEncoding) }
      return .chunked
    }
    return length.map { $0 == 0 ? .none : .length($0) } ?? .none
  }

  /// `chunked` alone is served; a list of known codings that ends in it is 501; everything else is 400.
  private func checkTransferEncoding(_ value: ArraySlice<UInt8>) throws(MessageError) {
    let known = ["gzip", "x-gzip", "deflate", "compress", "x-compress", "identity"]
    let codings = value.split(separator: 0x2C, omittingEmptySubsequences: false).map { part in
      let trimmed = (part.startIndex..<part.endIndex).trimmingBlanks(in: bytes.span)
      return bytes[trimmed].map(ASCII.lowercased)
    }
    let chunked = Array("chunked".utf8)
    if codings == [chunked] { return }
    let others = codings.last == chunked ? codings.dropLast() : codings[...]
    guard others.allSatisfy({ coding in known.contains { coding.elementsEqual($0.utf8) } }) else {
      throw MessageError(.malformedTransferEncoding)
    }
    throw MessageError(.unknownTransferCoding, status: 501)
  }

  /// What the `Connection` fields say (RFC 9110 7.6.1).
  struct ConnectionOptions {
    var close = false
    var keepAlive = false
    var upgrade = false
  }

  func connectionOptions() throws(MessageError) -> ConnectionOptions {
    var options = ConnectionOptions()
    guard mayContain(.connection) else { return options }
    let span = bytes.span
    for field in fields where field.known == .connection && !field.isRemoved {
      var tokens = ListElements(field.value)
      while let token = tokens.next(in: span) {
        let name = span.extracting(token)
        if Bytes.equalIgnoringCase(name, "close") {
          options.close = true
        } else if Bytes.equalIgnoringCase(name, "keep-alive") {
          options.keepAlive = true
        } else if Bytes.equalIgnoringCase(name, "upgrade") {
          options.upgrade = true
        } else {
          guard Bytes.isToken(name) else { throw MessageError(.malformedConnection) }
          switch KnownHeaderTable.shared.find(name, hash: HeaderName.hash(name)) {
          case .contentLength, .transferEncoding, .host: throw MessageError(.framingNominated)
          default: break
          }
        }
      }
    }
    return options
  }

  /// An `Upgrade` to another HTTP or to TLS: its requests would pass as bytes that nobody looks at. A server may leave any
  /// `Upgrade` unheeded (RFC 9110 7.8), and that is what becomes of these.
  var upgradesHTTP: Bool {
    let span = bytes.span
    for field in fields where field.known == .upgrade && !field.isRemoved {
      var protocols = ListElements(field.value)
      while let element = protocols.next(in: span) {
        if Bytes.isHTTPOrTLS(span.extracting(element)) { return true }
      }
    }
    return false
  }

  /// Whether every protocol of an answer's `Upgrade` is one that this request's named: a server must not switch to another
  /// (RFC 9110 7.8).
  public func asksForUpgrade(of answer: HeaderBlock) -> Bool {
    let (ours, theirs) = (bytes.span, answer.bytes.span)
    for field in answer.fields where field.known == .upgrade && !field.isRemoved {
      var switched = ListElements(field.value)
      while let name = switched.next(in: theirs) {
        if !namesUpgrade(theirs.extracting(name), ours) { return false }
      }
    }
    return true
  }

  private func namesUpgrade(_ wanted: Span<UInt8>, _ text: Span<UInt8>) -> Bool {
    for field in fields where field.known == .upgrade && !field.isRemoved {
      var names = ListElements(field.value)
      while let name = names.next(in: text) {
        if Bytes.equalIgnoringCase(text.extracting(name), wanted) { return true }
      }
    }
    return false
  }

  /// Removes what concerns one connection only (RFC 9110 7.6.1): first every name the `Connection` field nominates,
  /// then the known ones. To be called before the proxy's own fields are added, so a client cannot take those away.
  ///
  /// - Parameter keepingUpgrade: leaves `Upgrade` in place for a switch of protocols; the caller adds `Connection`.
  public mutating func removeHopByHop(keepingUpgrade: Bool = false) {
    guard mayContain(anyOf: Self.hopByHop) else { return }
    let text = bytes
    let span = text.span
    for index in fields.indices where fields[index].known == .connection && !fields[index].isRemoved {
      var tokens = ListElements(fields[index].value)
      while let token = tokens.next(in: span) {
        let name = span.extracting(token)
        let hash = HeaderName.hash(name)
        for other in fields.indices where fields[other].hash == hash && !fields[other].isRemoved {
          if fields[other].known == .upgrade || fields[other].known == .te { continue }
          if Bytes.equalIgnoringCase(span.extracting(fields[other].name), span.extracting(token)) {
            fields[other].isRemoved = true
          }
        }
      }
    }
    for index in fields.indices where !fields[index].isRemoved {
      switch fields[index].known {
      case .connection, .keepAlive, .proxyConnection, .transferEncoding, .proxyAuthenticate, .proxyAuthorization:
        fields[index].isRemoved = true
      case .upgrade: fields[index].isRemoved = !keepingUpgrade
      case .te:
        let isTrailers = Bytes.equalIgnoringCase(span.extracting(fields[index].value), "trailers")
        fields[index].isRemoved = !isTrailers
      default: break
      }
    }
  }
}

extension HeaderBlock {
  private static let hopByHop = KnownHeaders([
    .connection, .keepAlive, .proxyConnection, .transferEncoding, .proxyAuthenticate, .proxyAuthorization, .upgrade, .te,
  ])
}

/// The elements of a comma-separated list field; empty elements are skipped (RFC 9110 5.6.1.2).
struct ListElements {
  private var rest: Range<Int>
  init(_ value: Range<Int>) { rest = value }

  mutating func next(in bytes: Span<UInt8>) -> Range<Int>? {
    while !rest.isEmpty {
      var comma = rest.lowerBound
      while comma < rest.upperBound, bytes[comma] != 0x2C { comma += 1 }
      let element = (rest.lowerBound..<comma).trimmingBlanks(in: bytes)
      rest = min(comma + 1, rest.upperBound)..<rest.upperBound
      if !element.isEmpty { return element }
    }
    return nil
  }
}

extension Bytes {
  static func equalIgnoringCase(_ a: Span<UInt8>, _ lowercased: StaticString) -> Bool {
    lowercased.withUTF8Buffer { b in
      guard a.count == b.count else { return false }
      for i in a.indices where unsafe ASCII.lowercased(a[i]) != b[i] { return false }
      return true
    }
  }

  static func equalIgnoringCase(_ a: Span<UInt8>, _ b: Span<UInt8>) -> Bool {
    guard a.count == b.count else { return false }
    for i in a.indices where ASCII.lowercased(a[i]) != ASCII.lowercased(b[i]) { return false }
    return true
  }

  /// `h2c`, `h2`, `h3`, `HTTP/2.0`, `TLS/1.0` and their kin, by the name before the version (RFC 9110 16.7).
  static func isHTTPOrTLS(_ protocolName: Span<UInt8>) -> Bool {
    var end = 0
    while end < protocolName.count, protocolName[end] != 0x2F { end += 1 }
    let name = protocolName.extracting(0..<end)
    return equalIgnoringCase(name, "h2c") || equalIgnoringCase(name, "h2") || equalIgnoringCase(name, "h3")
      || equalIgnoringCase(name, "http") || equalIgnoringCase(name, "https") || equalIgnoringCase(name, "tls")
  }

  static func contains(_ bytes: Span<UInt8>, _ wanted: UInt8) -> Bool {
    for i in bytes.indices where bytes[i] == wanted { return true }
    return false
  }

  /// As `parseDecimal`, without a copy: digits only, at most 19 of them.
  static func decimal(_ digits: Span<UInt8>, max: UInt64) -> UInt64? {
    guard !digits.isEmpty, digits.count <= 19 else { return nil }
    var value: UInt64 = 0
    for i in digits.indices {
      guard ASCII.isDigit(digits[i]) else { return nil }
      value = value &* 10 &+ UInt64(digits[i] &- 0x30)
    }
    return value <= max ? value : nil
  }

  public static func isToken(_ bytes: Span<UInt8>) -> Bool {
    for i in bytes.indices where !ByteClass.has(bytes[i], ByteClass.token) { return false }
    return !bytes.isEmpty
  }
}
