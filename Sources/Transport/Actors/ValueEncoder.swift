import Primitives

/// Writes `Encodable` values in one pass into one buffer, which may begin with room for a header.
final class ValueWriter {
  private(set) var writer: ByteWriter
  private var keys: [String: UInt64] = [:]
  /// The containers that are open, outermost first. Writing to one closes all inside it.
  private var open: [Open] = []
  private var serial: UInt64 = 0

  private struct Open {
    var serial: UInt64
    var isMap: Bool
  }

  /// A container's place among the open ones.
  struct Place {
    var depth: Int
    var serial: UInt64
  }

  init(prefix: consuming [UInt8] = []) { writer = ByteWriter(appendingTo: prefix) }

  var bytes: [UInt8] { writer.bytes }

  /// Appends one value at the top level.
  func append<T: Encodable>(_ value: T) throws {
    try write(value)
    close(to: 0)
  }

  func uint8(_ byte: UInt8) { writer.uint8(byte) }
  func string(_ text: String) { writer.string(text) }

  fileprivate func begin(map: Bool) throws -> Place {
    guard open.count < CallLimits.depthMax else { throw ValueError.tooDeep }
    serial &+= 1
    writer.uint8(map ? ValueTag.map : ValueTag.array)
    open.append(Open(serial: serial, isMap: map))
    return Place(depth: open.count, serial: serial)
  }

  private func close(to depth: Int) {
    while open.count > depth, let last = open.popLast() {
      if last.isMap { writer.varint(ValueTag.keyEnd) } else { writer.uint8(ValueTag.end) }
    }
  }

  /// Makes the container at `place` the innermost one.
  fileprivate func resume(_ place: Place) throws {
    guard open.count >= place.depth, open[place.depth - 1].serial == place.serial else {
      throw ValueError.unsupported("a container that was left and is written to again")
    }
    close(to: place.depth)
  }

  fileprivate func key(_ key: String, in place: Place) throws {
    try resume(place)
    if let known = keys[key] {
      writer.varint(known)
      return
    }
    guard key.utf8.count <= CallLimits.keyBytesMax else { throw ValueError.unsupported("a key of \(key.utf8.count) bytes") }
    guard keys.count < CallLimits.keysMax else { throw ValueError.tooManyKeys }
    keys[key] = UInt64(keys.count) + ValueTag.keyFirst
    writer.varint(ValueTag.keyNew)
    writer.string(key)
  }

  fileprivate func null() { writer.uint8(ValueTag.null) }

  fileprivate func number(_ value: some BinaryInteger) throws {
    if let magnitude = UInt64(exactly: value) {
      if magnitude < 128 {
        writer.uint8(ValueTag.smallNumber | UInt8(magnitude))
      } else {
        writer.uint8(ValueTag.unsigned)
        writer.varint(magnitude)
      }
    } else if let negative = Int64(exactly: value) {
      writer.uint8(ValueTag.negative)
      writer.varint(UInt64(bitPattern: ~negative))
    } else {
      throw ValueError.unsupported("a number of more than 64 bits")
    }
  }

  /// Types are compared before values are cast: a cast that fails costs more than the encoding of a number.
  fileprivate func write<T: Encodable>(_ value: T) throws {
    if T.self == [UInt8].self, let value = value as? [UInt8] {
      writer.uint8(ValueTag.bytes)
      writer.lengthPrefixed(value)
    } else if T.self == String.self, let value = value as? String {
      writer.uint8(ValueTag.string)
      writer.string(value)
    } else if Self.isScalar(T.self) {
      try writeScalar(value)
    } else {
      try writeComposite(value)
    }
  }

  private static func isScalar(_ type: any Any.Type) -> Bool {
    type == Int.self || type == UInt64.self || type == Bool.self || type == UInt8.self || type == UInt16.self
      || type == UInt32.self || type == UInt.self || type == Int8.self || type == Int16.self || type == Int32.self
      || type == Int64.self || type == Float.self || type == Double.self
  }

  private func writeScalar<T: Encodable>(_ value: T) throws {
    switch value {
    case let value as Bool: writer.uint8(value ? ValueTag.true : ValueTag.false)
    case let value as Int: try number(value)
    case let value as UInt8: try number(value)
    case let value as UInt16: try number(value)
    case let value as UInt32: try number(value)
    case let value as UInt64: try number(value)
    case let value as UInt: try number(value)
    case let value as Int8: try number(value)
    case let value as Int16: try number(value)
    case let value as Int32: try number(value)
    case let value as Int64: try number(value)
    case let value as Float:
      writer.uint8(ValueTag.float)
      writer.uint32(value.bitPattern)
    case let value as Double:
      writer.uint8(ValueTag.double)
      writer.uint64(value.bitPattern)
    default: try writeComposite(value)
    }
  }

  private func writeComposite<T: Encodable>(_ value: T) throws {
    guard open.count < CallLimits.depthMax else { throw ValueError.tooDeep }
    let depth = open.count
    let before = writer.bytes.count
    try value.encode(to: ValueEncoder(writer: self))
    close(to: depth)
    if writer.bytes.count == before { null() }
  }
}

/// The `Encoder` handed to one value.
private final class ValueEncoder: Encoder {
  let writer: ValueWriter
  private var place: ValueWriter.Place?

  init(writer: ValueWriter) { self.writer = writer }

  var codingPath: [any CodingKey] { [] }
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  /// A value may ask for its container again, for example to encode a superclass's part.
  fileprivate func container(map: Bool) throws -> ValueWriter.Place {
    if let place { return place }
    let new = try writer.begin(map: map)
    place = new
    return new
  }

  func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
    KeyedEncodingContainer(KeyedWriter(encoder: self, place: try? container(map: true)))
  }
  func unkeyedContainer() -> any UnkeyedEncodingContainer { UnkeyedWriter(encoder: self, place: try? container(map: false)) }
  func singleValueContainer() -> any SingleValueEncodingContainer { SingleWriter(writer: writer) }
}

/// `place` is nil when the container would be nested too deeply; writing to it throws.
private struct KeyedWriter<Key: CodingKey>: KeyedEncodingContainerProtocol {
  let encoder: ValueEncoder
  let place: ValueWriter.Place?
  var codingPath: [any CodingKey] { [] }

  private func key(_ key: some CodingKey) throws {
    guard let place else { throw ValueError.tooDeep }
    try encoder.writer.key(key.stringValue, in: place)
  }

  func encodeNil(forKey key: Key) throws {
    try self.key(key)
    encoder.writer.null()
  }
  func encode<T: Encodable>(_ value: T, forKey key: Key) throws {
    try self.key(key)
    try encoder.writer.write(value)
  }
  func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type, forKey key: Key) -> KeyedEncodingContainer<Nested> {
    let nested = ValueEncoder(writer: encoder.writer)
    guard (try? self.key(key)) != nil else { return KeyedEncodingContainer(KeyedWriter<Nested>(encoder: nested, place: nil)) }
    return nested.container(keyedBy: type)
  }
  func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
    let nested = ValueEncoder(writer: encoder.writer)
    guard (try? self.key(key)) != nil else { return UnkeyedWriter(encoder: nested, place: nil) }
    return nested.unkeyedContainer()
  }
  func superEncoder() -> any Encoder { RefusingEncoder() }
  func superEncoder(forKey key: Key) -> any Encoder { RefusingEncoder() }
}

private struct UnkeyedWriter: UnkeyedEncodingContainer {
  let encoder: ValueEncoder
  let place: ValueWriter.Place?
  var count = 0
  var codingPath: [any CodingKey] { [] }

  init(encoder: ValueEncoder, place: ValueWriter.Place?) {
    self.encoder = encoder
    self.place = place
  }

  private mutating func element() throws {
    guard let place else { throw ValueError.tooDeep }
    try encoder.writer.resume(place)
    count += 1
  }

  mutating func encodeNil() throws {
    try element()
    encoder.writer.null()
  }
  mutating func encode<T: Encodable>(_ value: T) throws {
    try element()
    try encoder.writer.write(value)
  }
  mutating func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) -> KeyedEncodingContainer<Nested> {
    let nested = ValueEncoder(writer: encoder.writer)
    guard (try? element()) != nil else { return KeyedEncodingContainer(KeyedWriter<Nested>(encoder: nested, place: nil)) }
    return nested.container(keyedBy: type)
  }
  mutating func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer {
    let nested = ValueEncoder(writer: encoder.writer)
    guard (try? element()) != nil else { return UnkeyedWriter(encoder: nested, place: nil) }
    return nested.unkeyedContainer()
  }
  func superEncoder() -> any Encoder { RefusingEncoder() }
}

private struct SingleWriter: SingleValueEncodingContainer {
  let writer: ValueWriter
  var codingPath: [any CodingKey] { [] }

  func encodeNil() throws { writer.null() }
  func encode<T: Encodable>(_ value: T) throws { try writer.write(value) }
}

/// Stands where a class asks to encode its superclass apart, which the format has no form for.
private struct RefusingEncoder: Encoder, SingleValueEncodingContainer {
  var codingPath: [any CodingKey] { [] }
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
    KeyedEncodingContainer(KeyedWriter(encoder: ValueEncoder(writer: ValueWriter()), place: nil))
  }
  func unkeyedContainer() -> any UnkeyedEncodingContainer {
    UnkeyedWriter(encoder: ValueEncoder(writer: ValueWriter()), place: nil)
  }
  func singleValueContainer() -> any SingleValueEncodingContainer { self }
  func encodeNil() throws { throw ValueError.unsupported("a superclass") }
  func encode<T: Encodable>(_ value: T) throws { throw ValueError.unsupported("a superclass") }
}
