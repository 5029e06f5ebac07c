import Primitives

// Field names as HTTP/1 wrote them, for a hop whose protocol carries them in lower case (RFC 9113 8.2.1). They mean the same;
// some old applications read one spelling only.
extension HeaderBlock {
  /// The names that were written with capital letters, with commas between: each once, as it came first. A removed field's
  /// name is among them, since what takes its place is that field to its reader.
  ///
  /// - Parameter limit: bytes of the whole list; names that would exceed it are left out.
  public func spellings(limit: Int) -> [UInt8] {
    var list: [UInt8] = []
    let span = bytes.span
    for (index, field) in fields.enumerated() {
      let name = span.extracting(field.name)
      guard Self.hasCapitals(name), list.count + 1 + name.count <= limit, !isNamed(before: index, span) else { continue }
      if !list.isEmpty { list.append(0x2C) }
      list.append(name)
    }
    return list
  }

  /// Writes the names of fields as `list` does, which `spellings` made elsewhere. What names no field here, or is no name, has
  /// no effect: nothing but the case of letters ever changes.
  public mutating func respell(_ list: Span<UInt8>) {
    var elements = ListElements(list.indices)
    while let element = elements.next(in: list) {
      let name = list.extracting(element)
      let hash = HeaderName.hash(name)
      for field in fields where field.hash == hash && !field.isRemoved { respell(field, name) }
    }
  }

  private mutating func respell(_ field: HeaderField, _ name: Span<UInt8>) {
    let start = field.name.lowerBound
    guard Bytes.equalIgnoringCase(bytes.span.extracting(field.name), name) else { return }
    for offset in name.indices { bytes[start + offset] = name[offset] }
  }

  private func isNamed(before index: Int, _ span: Span<UInt8>) -> Bool {
    let field = fields[index]
    for earlier in fields[..<index] where earlier.hash == field.hash {
      if Bytes.equalIgnoringCase(span.extracting(earlier.name), span.extracting(field.name)) { return true }
    }
    return false
  }

  private static func hasCapitals(_ name: Span<UInt8>) -> Bool {
    for i in name.indices where name[i] >= 0x41 && name[i] <= 0x5A { return true }
    return false
  }
}

extension RequestHead {
  /// As for fields; the authority becomes the `Host` field that it was, the first of all (RFC 9110 7.2).
  public mutating func respell(_ list: Span<UInt8>) {
    if !headers.contains(.host), !list.isEmpty, let host = Self.hostName, headers.add(host, headers.copy(authority)) {
      headers.fields.insert(headers.fields.removeLast(), at: 0)
    }
    headers.respell(list)
  }
  private static let hostName = HeaderName(.host)
}
