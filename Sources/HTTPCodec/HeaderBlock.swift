import Primitives

/// One field line: ranges of its name and value in the block's bytes, its name's hash and known id.
public struct HeaderField: Hashable, Sendable {
  var lineStart: UInt32
  var nameLength: UInt16
  public private(set) var known: KnownHeader
  /// Removed fields keep their place; nothing reads or writes them.
  public internal(set) var isRemoved = false
  public let hash: UInt32
  var valueStart: UInt32
  var valueEnd: UInt32
  /// End of the line with its CRLF.
  var lineEnd: UInt32

  init(line: Range<Int>, nameLength: Int, value: Range<Int>, known: KnownHeader, hash: UInt32) {
    lineStart = UInt32(truncatingIfNeeded: line.lowerBound)
    lineEnd = UInt32(truncatingIfNeeded: line.upperBound)
    self.nameLength = UInt16(truncatingIfNeeded: nameLength)
    valueStart = UInt32(truncatingIfNeeded: value.lowerBound)
    valueEnd = UInt32(truncatingIfNeeded: value.upperBound)
    self.known = known
    self.hash = hash
  }

  public var name: Range<Int> { Int(lineStart)..<(Int(lineStart) + Int(nameLength)) }
  public var value: Range<Int> { Int(valueStart)..<Int(valueEnd) }
  var line: Range<Int> { Int(lineStart)..<Int(lineEnd) }
}

/// The field lines of one message, as ranges of one byte array that is reused from message to message.
///
/// `bytes` holds the head as received, then whatever was added: canonical target, new fields. Nothing in it moves while
/// the message lives, so a range stays valid. Removing marks; setting removes and adds.
public struct HeaderBlock: Sendable {
  public internal(set) var bytes: [UInt8] = []
  /// Grows by `append` only, which notes what is known of the field.
  public internal(set) var fields: [HeaderField] = []
  /// The known names that were ever appended: a quick no for the many that most messages do not have.
  private var appended = KnownHeaders()

  public init() {}

  public mutating func removeAll() {
    bytes.removeAll(keepingCapacity: true)
    fields.removeAll(keepingCapacity: true)
    appended = KnownHeaders()
  }

  mutating func append(_ field: HeaderField) {
    fields.append(field)
    appended.insert(field.known)
  }

  /// False: no such field is here. True: one is, or was removed.
  @inline(__always) func mayContain(_ known: KnownHeader) -> Bool { appended.contains(known) }
  /// False when none of these fields was ever there: known without looking at one.
  @inline(__always) public func mayContain(anyOf known: KnownHeaders) -> Bool { appended.intersects(known) }

  /// The first value of a known field, or nil.
  public func value(_ known: KnownHeader) -> Range<Int>? {
    guard mayContain(known) else { return nil }
    for field in fields where field.known == known && !field.isRemoved { return field.value }
    return nil
  }

  /// The first value of a named field, or nil.
  public func value(_ name: HeaderName) -> Range<Int>? {
    if name.known != .other { return value(name.known) }
    let span = bytes.span
    for field in fields where matches(field, name, span) { return field.value }
    return nil
  }

  public func contains(_ known: KnownHeader) -> Bool { value(known) != nil }

  /// All values of a known field in one list (RFC 9110 5.3); empty values are left out.
  public func joined(_ known: KnownHeader) -> [UInt8] {
    guard mayContain(known) else { return [] }
    var list: [UInt8] = []
    for field in fields where field.known == known && !field.isRemoved && !field.value.isEmpty {
      if !list.isEmpty { list.append(", ") }
      list.append(bytes.span.extracting(field.value))
    }
    return list
  }

  /// A copy of the bytes in `range`; empty when the range is not inside the block.
  public func copy(_ range: Range<Int>) -> [UInt8] {
    guard range.lowerBound >= 0, range.upperBound <= bytes.count else { return [] }
    return Array(bytes[range])
  }

  /// The bytes in `range` as text for people; invalid UTF-8 is repaired, so never compare it.
  public func text(_ range: Range<Int>) -> String { String(decoding: copy(range), as: UTF8.self) }

  public func text(_ known: KnownHeader) -> String? { value(known).map(text) }

  @inline(__always)
  private func matches(_ field: HeaderField, _ name: HeaderName, _ span: Span<UInt8>) -> Bool {
    if field.isRemoved { return false }
    if name.known != .other { return field.known == name.known }
    return field.hash == name.hash && field.known == .other
      && Bytes.equalIgnoringCase(span.extracting(field.name), lowercased: name.bytes.span)
  }

  // MARK: Changes

  public mutating func remove(_ known: KnownHeader) {
    guard mayContain(known) else { return }
    for i in fields.indices where fields[i].known == known { fields[i].isRemoved = true }
  }

  public mutating func remove(_ name: HeaderName) {
    if name.known != .other { return remove(name.known) }
    let text = bytes
    for i in fields.indices where matches(fields[i], name, text.span) { fields[i].isRemoved = true }
  }

  /// Removes every field with one of these names.
  public mutating func remove(_ names: KnownHeaders) {
    guard mayContain(anyOf: names) else { return }
    for i in fields.indices where names.contains(fields[i].known) { fields[i].isRemoved = true }
  }

  /// Removes every field for which `condition` holds; it sees the lower-cased hash-free name bytes as sent.
  public mutating func removeAll(where condition: (HeaderField, Span<UInt8>) -> Bool) {
    let text = bytes
    let span = text.span
    for i in fields.indices where !fields[i].isRemoved {
      if condition(fields[i], span.extracting(fields[i].name)) { fields[i].isRemoved = true }
    }
  }

  /// Appends a field. False, and no change, when the value holds CR, LF, NUL or another control byte: nothing that
  /// could split a message is ever written, wherever the value came from.
  @discardableResult
  public mutating func add(_ name: HeaderName, _ value: Span<UInt8>) -> Bool {
    guard Self.isFieldValue(value) else { return false }
    let start = bytes.count
    bytes.appendLine(name: name.bytes.span, value: value)
    append(
      HeaderField(
        line: start..<bytes.count, nameLength: name.bytes.count, value: (start + name.prefix.count)..<(bytes.count - 2),
        known: name.known, hash: name.hash))
    return true
  }

  /// Ends the line that begins at `start` with the name's prefix and goes on with its value.
  private mutating func endLine(from start: Int, _ name: HeaderName) {
    let valueEnd = bytes.count
    bytes.append("\r\n")
    append(
      HeaderField(
        line: start..<bytes.count, nameLength: name.bytes.count, value: (start + name.prefix.count)..<valueEnd,
        known: name.known, hash: name.hash))
  }

  /// Appends a field that was made ready before.
  public mutating func add(_ line: HeaderLine) {
    let start = bytes.count
    bytes.append(line.bytes.span)
    append(
      HeaderField(
        line: start..<bytes.count, nameLength: line.name.bytes.count,
        value: (start + line.name.prefix.count)..<(bytes.count - 2), known: line.name.known, hash: line.name.hash))
  }

  /// Replaces all values of a field by one that was made ready before.
  public mutating func set(_ line: HeaderLine) {
    remove(line.name)
    add(line)
  }

  @discardableResult
  public mutating func add(_ name: HeaderName, _ value: [UInt8]) -> Bool { add(name, value.span) }

  @discardableResult
  public mutating func add(_ name: HeaderName, _ value: String) -> Bool { add(name, Array(value.utf8).span) }

  /// Replaces all values of a field by one.
  @discardableResult
  public mutating func set(_ name: HeaderName, _ value: [UInt8]) -> Bool {
    guard Self.isFieldValue(value.span) else { return false }
    remove(name)
    return add(name, value.span)
  }

  /// Replaces all values of a field by a decimal number.
  public mutating func set(_ name: HeaderName, number: UInt64) {
    remove(name)
    let start = bytes.count
    bytes.append(name.prefix.span)
    bytes.appendDecimal(number)
    endLine(from: start, name)
  }

  public static func isFieldValue(_ value: Span<UInt8>) -> Bool {
    value.firstNonValue(from: 0, to: value.count) == value.count
  }

  /// Bytes of all names and values that were not removed, for metrics: what they take on the wire depends on the protocol.
  public var decodedBytes: Int {
    var count = 0
    for field in fields where !field.isRemoved { count += field.name.count + field.value.count }
    return count
  }

  // MARK: Writing

  /// Appends all fields that were not removed, then the empty line. Neighbouring received lines are copied as one run.
  public func write(into output: inout [UInt8]) {
    let span = bytes.span
    var runStart = 0
    var runEnd = 0
    for field in fields where !field.isRemoved {
      let line = field.line
      if line.lowerBound != runEnd {
        output.append(span.extracting(runStart..<runEnd))
        runStart = line.lowerBound
      }
      runEnd = line.upperBound
    }
    output.append(span.extracting(runStart..<runEnd))
    output.append(0x0D)
    output.append(0x0A)
  }

  /// Appends raw bytes that are no field (a canonical path, say) and says where they are.
  mutating func append(_ raw: Span<UInt8>) -> Range<Int> {
    let start = bytes.count
    bytes.append(raw)
    return start..<bytes.count
  }
}

extension [UInt8] {
  /// Appends a number as decimal digits.
  public mutating func appendDecimal(_ number: UInt64) {
    if number < 10 { return append(UInt8(truncatingIfNeeded: 0x30 + number)) }
    var divisor: UInt64 = 1
    while number / divisor >= 10 { divisor *= 10 }
    while divisor > 0 {
      append(UInt8(truncatingIfNeeded: 0x30 + number / divisor % 10))
      divisor /= 10
    }
  }

  /// Appends a number as lower-case hexadecimal digits.
  public mutating func appendHex(_ number: UInt64) {
    var shift = number == 0 ? 0 : (63 - number.leadingZeroBitCount) / 4 * 4
    while shift >= 0 {
      let digit = UInt8(truncatingIfNeeded: number >> UInt64(shift)) & 15
      append(digit < 10 ? 0x30 + digit : 0x57 + digit)
      shift -= 4
    }
  }
}
