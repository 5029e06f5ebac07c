import Primitives

/// The few BSON types (bsonspec.org 1.1) that a query and its answer need; others are skipped by their length.
enum BSON: Hashable, Sendable {
  case double(Double)
  case string(String)
  /// Members in order; an array is a document with the names "0", "1", …
  case document([Member])
  case array([BSON])
  case bool(Bool)
  case int32(Int32)
  case int64(Int64)
  /// A type that is not looked into.
  case other

  struct Member: Hashable, Sendable {
    var name: String
    var value: BSON
  }

  subscript(name: String) -> BSON? {
    guard case .document(let members) = self else { return nil }
    return members.first { $0.name == name }?.value
  }

  /// The value as JSON writes it; nil for what is no number or text.
  var json: JSON? {
    switch self {
    case .int32(let value): .integer(value)
    case .int64(let value): .integer(value)
    case .double(let value): Int64(exactly: value).map(JSON.integer) ?? (value.isFinite ? .number("\(value)") : JSON.null)
    case .string(let value): .string(value)
    case .bool(let value): .bool(value)
    case .document, .array, .other: nil
    }
  }

  // MARK: Writing

  static func encode(_ members: [Member]) -> [UInt8] {
    var body: [UInt8] = []
    for member in members { append(member, to: &body) }
    var bytes: [UInt8] = []
    bytes.appendLittleEndian(Int32(truncatingIfNeeded: body.count + 5))
    return bytes + body + [0]
  }

  private static func append(_ member: Member, to body: inout [UInt8]) {
    func head(_ type: UInt8) -> [UInt8] { [type] + Array(member.name.utf8) + [0] }
    switch member.value {
    case .double(let value):
      body += head(0x01)
      body.appendLittleEndian(value.bitPattern)
    case .string(let value):
      body += head(0x02)
      body.appendLittleEndian(Int32(truncatingIfNeeded: value.utf8.count + 1))
      body += Array(value.utf8) + [0]
    case .document(let members): body += head(0x03) + encode(members)
    case .array(let elements):
      body += head(0x04) + encode(elements.enumerated().map { Member(name: "\($0.offset)", value: $0.element) })
    case .bool(let value): body += head(0x08) + [value ? 1 : 0]
    case .int32(let value):
      body += head(0x10)
      body.appendLittleEndian(value)
    case .int64(let value):
      body += head(0x12)
      body.appendLittleEndian(value)
    case .other: body += head(0x0A)
    }
  }

  // MARK: Reading

  static func decode(_ reader: inout LittleEndianReader, depth: Int = 0) throws(ByteError) -> [Member] {
    guard depth <= Limits.jsonDepth else { throw .tooLong }
    let length = try reader.integer(Int32.self)
    guard length >= 5 else { throw .malformed }
    var body = LittleEndianReader(try reader.bytes(Int(length) - 4))
    var members: [Member] = []
    while true {
      let type = try body.integer(UInt8.self)
      if type == 0 { break }
      guard members.count < Limits.databaseRows else { throw .tooLong }
      let name = String(decoding: try body.terminated(), as: UTF8.self)
      members.append(Member(name: name, value: try value(type, &body, depth: depth)))
    }
    guard body.isAtEnd else { throw .trailing }
    return members
  }

  private static func value(_ type: UInt8, _ body: inout LittleEndianReader, depth: Int) throws(ByteError) -> BSON {
    switch type {
    case 0x01: return .double(Double(bitPattern: try body.integer()))
    case 0x02: return .string(try string(&body))
    case 0x03: return .document(try decode(&body, depth: depth + 1))
    case 0x04: return .array(try decode(&body, depth: depth + 1).map(\.value))
    case 0x08: return .bool(try body.integer(UInt8.self) != 0)
    case 0x10: return .int32(try body.integer())
    case 0x12: return .int64(try body.integer())
    default:
      try skip(type, &body)
      return .other
    }
  }

  private static func string(_ body: inout LittleEndianReader) throws(ByteError) -> String {
    let length = try body.integer(Int32.self)
    guard length >= 1 else { throw .malformed }
    let text = try body.bytes(Int(length))
    guard text.last == 0, let string = String(validating: text.dropLast(), as: UTF8.self) else { throw .malformed }
    return string
  }

  private static func skip(_ type: UInt8, _ body: inout LittleEndianReader) throws(ByteError) {
    switch type {
    case 0x06, 0x0A, 0x7F, 0xFF: break
    case 0x05: _ = try body.bytes(Int(try body.integer(Int32.self)) + 1)
    case 0x07: _ = try body.bytes(12)
    case 0x09, 0x11: _ = try body.bytes(8)
    case 0x0B:
      _ = try body.terminated()
      _ = try body.terminated()
    case 0x0D, 0x0E: _ = try body.bytes(Int(try body.integer(Int32.self)))
    case 0x13: _ = try body.bytes(16)
    default: throw .malformed
    }
  }
}
