import Primitives

// Fields as an HPACK decoder delivers them: a name and a value without a line around them (RFC 9113 8.2).

extension HeaderBlock {
  /// Appends one decoded field as a line ready for HTTP/1, after checking it by RFC 9113 8.2.1: a lower-case token as
  /// name, and a value without control bytes or blanks at its ends.
  ///
  /// - Returns: the known id of the field.
  @discardableResult
  mutating func addDecoded(
    name: Span<UInt8>, value: Span<UInt8>, limits: MessageLimits, allowUnderscores: Bool
  ) throws(MessageError) -> KnownHeader {
    guard fields.count < limits.fields else { throw MessageError(.tooManyFields, status: 431) }
    guard !name.isEmpty, name.count <= Int(UInt16.max) else { throw MessageError(.malformedFieldName) }
    var hash = HeaderName.hashSeed
    for i in name.indices {
      let byte = name[i]
      // A token, and in lower case already (RFC 9113 8.2.1).
      guard byte == ByteClass.lowercasedToken[Int(byte)], byte != 0 else { throw MessageError(.malformedFieldName) }
      if byte == 0x5F, !allowUnderscores { throw MessageError(.underscoreInName) }
      hash = HeaderName.hashed(hash, byte)
    }
    try Self.checkDecoded(value)
    let known = KnownHeaderTable.shared.find(name, hash: hash)
    let start = bytes.count
    bytes.appendLine(name: name, value: value)
    let valueStart = start + name.count + 2
    append(
      HeaderField(
        line: start..<bytes.count, nameLength: name.count, value: valueStart..<(bytes.count - 2), known: known, hash: hash))
    return known
  }

  static func checkDecoded(_ value: Span<UInt8>) throws(MessageError) {
    guard isFieldValue(value) else { throw MessageError(.malformedFieldValue) }
    guard let last = value.indices.last else { return }
    guard !isBlank(value[0]), !isBlank(value[last]) else { throw MessageError(.malformedFieldValue) }
  }

  private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

  /// RFC 9113 8.2.2: what concerns one HTTP/1 connection makes an HTTP/2 message malformed.
  static func checkConnectionSpecific(_ known: KnownHeader, _ value: Span<UInt8>) throws(MessageError) {
    switch known {
    case .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade:
      throw MessageError(.connectionSpecificField)
    case .te:
      guard Bytes.equalIgnoringCase(value, "trailers") else { throw MessageError(.connectionSpecificField) }
    default: break
    }
  }

  /// The announced content length, checked against a message that ends with its head (RFC 9113 8.1.1).
  func decodedFraming(ends: Bool) throws(MessageError) -> BodyFraming {
    let announced = try framing()
    if ends {
      if case .length = announced { throw MessageError(.lengthMismatch) }
      return .none
    }
    return announced == .none && !contains(.contentLength) ? .chunked : announced
  }
}

/// The crumbs of a `Cookie` field, which HTTP/2 may send apart and HTTP/1 must see as one (RFC 9113 8.2.3).
struct CookieCrumbs: Sendable {
  private var first: Int?
  private var joined: [UInt8] = []

  mutating func removeAll() {
    first = nil
    joined.removeAll(keepingCapacity: true)
  }

  /// To be called after a cookie field was appended to `headers`.
  mutating func add(to headers: inout HeaderBlock) {
    let index = headers.fields.count - 1
    guard let first else {
      self.first = index
      return
    }
    if joined.isEmpty {
      joined.append(headers.bytes.span.extracting(headers.fields[first].value))
      headers.fields[first].isRemoved = true
    }
    joined.append(0x3B)
    joined.append(0x20)
    joined.append(headers.bytes.span.extracting(headers.fields[index].value))
    headers.fields[index].isRemoved = true
  }

  func finish(_ headers: inout HeaderBlock) {
    guard !joined.isEmpty, let name = Self.name else { return }
    headers.add(name, joined.span)
  }

  private static let name = HeaderName(.cookie)
}

/// The decoded size of a header section as SETTINGS_MAX_HEADER_LIST_SIZE counts it (RFC 9113 6.5.2): what is stored, not
/// what came over the wire, and before anything is merged or dropped.
struct DecodedSize: Sendable {
  private(set) var bytes = 0

  mutating func count(name: Int, value: Int, limit: Int) throws(MessageError) {
    bytes += name + value + 32
    if bytes > limit { throw MessageError(.headTooLarge, status: 431) }
  }
}
