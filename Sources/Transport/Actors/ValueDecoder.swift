extension ValueTape {
  /// Decodes the value at a node.
  func decode<T: Decodable>(_ type: T.Type, at index: Int) throws -> T {
    let value: Any
    if type == String.self {
      value = try string(index)
    } else if type == Int.self {
      value = try number(index) as Int
    } else if type == Bool.self {
      value = try bool(index)
    } else if type == [UInt8].self {
      value = try byteArray(index)
    } else {
      return try decodeRare(type, at: index)
    }
    guard let typed = value as? T else { throw ValueError.mismatch(expected: "\(type)") }
    return typed
  }

  private func decodeRare<T: Decodable>(_ type: T.Type, at index: Int) throws -> T {
    let value: Any
    switch type {
    case is UInt8.Type: value = try number(index) as UInt8
    case is UInt16.Type: value = try number(index) as UInt16
    case is UInt32.Type: value = try number(index) as UInt32
    case is UInt64.Type: value = try number(index) as UInt64
    case is UInt.Type: value = try number(index) as UInt
    case is Int8.Type: value = try number(index) as Int8
    case is Int16.Type: value = try number(index) as Int16
    case is Int32.Type: value = try number(index) as Int32
    case is Int64.Type: value = try number(index) as Int64
    case is Float.Type: value = try float(index)
    case is Double.Type: value = try double(index)
    default: return try T(from: TapeDecoder(tape: self, index: index))
    }
    guard let typed = value as? T else { throw ValueError.mismatch(expected: "\(type)") }
    return typed
  }
}

/// The `Decoder` handed to one value.
private struct TapeDecoder: Decoder, SingleValueDecodingContainer {
  let tape: ValueTape
  let index: Int

  var codingPath: [any CodingKey] { [] }
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
    // A value without fields was written as null.
    guard tape.nodes[index].kind == .map || tape.nodes[index].kind == .null else {
      throw ValueError.mismatch(expected: "a structure")
    }
    return KeyedDecodingContainer(KeyedReader(tape: tape, index: index))
  }
  func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
    guard tape.nodes[index].kind == .array else { throw ValueError.mismatch(expected: "an array") }
    return UnkeyedReader(tape: tape, index: index)
  }
  func singleValueContainer() throws -> any SingleValueDecodingContainer { self }

  func decodeNil() -> Bool { tape.nodes[index].kind == .null }
  func decode<T: Decodable>(_ type: T.Type) throws -> T { try tape.decode(type, at: index) }
}

private final class KeyedReader<Key: CodingKey>: KeyedDecodingContainerProtocol {
  let tape: ValueTape
  let index: Int
  /// Where the next lookup begins: keys are mostly asked for in the order they were written.
  private var hint: Int

  init(tape: ValueTape, index: Int) {
    self.tape = tape
    self.index = index
    hint = index + 1
  }

  var codingPath: [any CodingKey] { [] }

  private func find(_ key: String) -> Int? {
    let end = Int(tape.nodes[index].end)
    return search(key, from: hint, to: end) ?? search(key, from: index + 1, to: hint)
  }

  private func search(_ key: String, from start: Int, to end: Int) -> Int? {
    var at = start
    while at < end {
      let node = tape.nodes[at]
      if tape.keys[Int(node.key)].utf8.elementsEqual(key.utf8) {
        hint = Int(node.end)
        return at
      }
      at = Int(node.end)
    }
    return nil
  }

  private func require(_ key: some CodingKey) throws -> Int {
    guard let found = find(key.stringValue) else { throw ValueError.missingKey(key.stringValue) }
    return found
  }

  var allKeys: [Key] {
    var keys: [Key] = []
    var at = index + 1
    while at < Int(tape.nodes[index].end) {
      if let key = Key(stringValue: tape.keys[Int(tape.nodes[at].key)]) { keys.append(key) }
      at = Int(tape.nodes[at].end)
    }
    return keys
  }
  func contains(_ key: Key) -> Bool {
    let before = hint
    defer { hint = before }
    return find(key.stringValue) != nil
  }
  func decodeNil(forKey key: Key) throws -> Bool {
    let before = hint
    let isNull = tape.nodes[try require(key)].kind == .null
    if !isNull { hint = before }
    return isNull
  }
  func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T { try tape.decode(type, at: require(key)) }
  func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type, forKey key: Key) throws -> KeyedDecodingContainer<Nested> {
    try TapeDecoder(tape: tape, index: require(key)).container(keyedBy: type)
  }
  func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
    try TapeDecoder(tape: tape, index: require(key)).unkeyedContainer()
  }
  func superDecoder() throws -> any Decoder { throw ValueError.unsupported("a superclass") }
  func superDecoder(forKey key: Key) throws -> any Decoder { throw ValueError.unsupported("a superclass") }
}

private struct UnkeyedReader: UnkeyedDecodingContainer {
  let tape: ValueTape
  let index: Int
  private var at: Int
  private(set) var currentIndex = 0

  init(tape: ValueTape, index: Int) {
    self.tape = tape
    self.index = index
    at = index + 1
  }

  var codingPath: [any CodingKey] { [] }
  var count: Int? { Int(tape.nodes[index].count) }
  var isAtEnd: Bool { at >= Int(tape.nodes[index].end) }

  private mutating func take() throws -> Int {
    guard !isAtEnd else { throw ValueError.endOfArray }
    defer {
      at = Int(tape.nodes[at].end)
      currentIndex += 1
    }
    return at
  }

  mutating func decodeNil() throws -> Bool {
    guard !isAtEnd else { throw ValueError.endOfArray }
    guard tape.nodes[at].kind == .null else { return false }
    _ = try take()
    return true
  }
  mutating func decode<T: Decodable>(_ type: T.Type) throws -> T { try tape.decode(type, at: take()) }
  mutating func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) throws -> KeyedDecodingContainer<Nested> {
    try TapeDecoder(tape: tape, index: take()).container(keyedBy: type)
  }
  mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
    try TapeDecoder(tape: tape, index: take()).unkeyedContainer()
  }
  mutating func superDecoder() throws -> any Decoder { throw ValueError.unsupported("a superclass") }
}
