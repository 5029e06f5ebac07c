import Primitives

/// Received values, checked whole before any is decoded: one node each, in the order of the wire.
///
/// Every bound (nesting, count, lengths, UTF-8) is enforced here, so the decoder on top only walks.
final class ValueTape {
  enum Kind: UInt8 { case null, bool, unsigned, negative, float, double, string, bytes, array, map }

  struct Node {
    var kind: Kind
    /// The key it has in its map, as an index into `keys`; −1 outside maps.
    var key: Int32
    /// The node after this one and all inside it.
    var end: Int32
    /// A number's value, a float's bits, or where a string's or bytes' content starts.
    var payload: UInt64
    /// Content bytes, or elements of a container.
    var count: Int32
  }

  let bytes: [UInt8]
  private(set) var nodes: [Node] = []
  private(set) var keys: [String] = []

  /// Parses `count` values from `offset`, which must end the bytes.
  init(_ bytes: [UInt8], from offset: Int, count: Int) throws(ValueError) {
    self.bytes = bytes
    guard offset <= bytes.count, bytes.count <= Int(Int32.max) else { throw .truncated }
    var reader = ByteReader(bytes[offset...])
    do {
      try parse(&reader, count: count)
    } catch let error as ByteError {
      throw Self.valueError(error)
    } catch let error as ValueError {
      throw error
    } catch {
      throw .malformed
    }
    guard reader.isAtEnd else { throw .trailingBytes }
  }

  private static func valueError(_ error: ByteError) -> ValueError {
    switch error {
    case .truncated: .truncated
    case .trailing: .trailingBytes
    case .tooLong, .malformed: .malformed
    }
  }

  private func parse(_ reader: inout ByteReader, count: Int) throws {
    var open: [Int] = []
    var roots = 0
    while roots < count || !open.isEmpty {
      var key: Int32 = -1
      if let container = open.last, nodes[container].kind == .map {
        guard let named = try parseKey(&reader) else {
          close(&open)
          continue
        }
        key = named
      }
      let tag = try reader.uint8()
      if tag == ValueTag.end {
        guard let container = open.last, nodes[container].kind == .array else { throw ValueError.unknownTag(tag) }
        close(&open)
        continue
      }
      if open.isEmpty { roots += 1 }
      try parseNode(tag, key: key, &reader, &open)
    }
  }

  private func close(_ open: inout [Int]) {
    guard let container = open.popLast() else { return }
    nodes[container].end = Int32(nodes.count)
  }

  private func parseKey(_ reader: inout ByteReader) throws -> Int32? {
    let reference = try reader.varint()
    switch reference {
    case ValueTag.keyEnd: return nil
    case ValueTag.keyNew:
      guard keys.count < CallLimits.keysMax else { throw ValueError.tooManyKeys }
      keys.append(try text(reader.lengthPrefixed(max: CallLimits.keyBytesMax)))
      return Int32(keys.count - 1)
    default:
      guard reference - ValueTag.keyFirst < UInt64(keys.count) else { throw ValueError.malformed }
      return Int32(reference - ValueTag.keyFirst)
    }
  }

  private func text(_ content: ArraySlice<UInt8>) throws(ValueError) -> String {
    guard let text = String(validating: content, as: UTF8.self) else { throw .invalidUTF8 }
    return text
  }

  private func parseNode(_ tag: UInt8, key: Int32, _ reader: inout ByteReader, _ open: inout [Int]) throws {
    guard nodes.count < CallLimits.valuesMax else { throw ValueError.tooManyValues }
    let index = nodes.count
    var node = Node(kind: .null, key: key, end: Int32(index + 1), payload: 0, count: 0)
    switch tag {
    case ValueTag.null: break
    case ValueTag.false, ValueTag.true:
      node.kind = .bool
      node.payload = tag == ValueTag.true ? 1 : 0
    case ValueTag.unsigned: (node.kind, node.payload) = (.unsigned, try reader.varint())
    case ValueTag.negative: (node.kind, node.payload) = (.negative, try reader.varint())
    case ValueTag.float: (node.kind, node.payload) = (.float, UInt64(try reader.uint32()))
    case ValueTag.double: (node.kind, node.payload) = (.double, try reader.uint64())
    case ValueTag.string, ValueTag.bytes:
      let content = try reader.lengthPrefixed(max: CallLimits.bodyBytesMax)
      (node.kind, node.payload) = (tag == ValueTag.string ? .string : .bytes, UInt64(content.startIndex))
      node.count = Int32(content.count)
    case ValueTag.array, ValueTag.map: node.kind = tag == ValueTag.map ? .map : .array
    case ValueTag.smallNumber...: (node.kind, node.payload) = (.unsigned, UInt64(tag & 0x7F))
    default: throw ValueError.unknownTag(tag)
    }
    if let container = open.last { nodes[container].count += 1 }
    nodes.append(node)
    if node.kind == .array || node.kind == .map {
      guard open.count < CallLimits.depthMax else { throw ValueError.tooDeep }
      open.append(index)
    }
  }

  func string(_ index: Int) throws -> String {
    let node = nodes[index]
    guard node.kind == .string else { throw ValueError.mismatch(expected: "a string") }
    return try text(content(of: node))
  }

  func byteArray(_ index: Int) throws -> [UInt8] {
    let node = nodes[index]
    guard node.kind == .bytes else { throw ValueError.mismatch(expected: "bytes") }
    return Array(content(of: node))
  }

  private func content(of node: Node) -> ArraySlice<UInt8> {
    let start = Int(node.payload)
    return bytes[start..<(start + Int(node.count))]
  }

  func bool(_ index: Int) throws -> Bool {
    guard nodes[index].kind == .bool else { throw ValueError.mismatch(expected: "true or false") }
    return nodes[index].payload == 1
  }

  func number<T: FixedWidthInteger>(_ index: Int) throws -> T {
    let node = nodes[index]
    let value: T?
    switch node.kind {
    case .unsigned: value = T(exactly: node.payload)
    case .negative:
      guard node.payload <= UInt64(Int64.max) else { throw ValueError.numberOutOfRange }
      value = T(exactly: ~Int64(node.payload))
    default: throw ValueError.mismatch(expected: "a whole number")
    }
    guard let value else { throw ValueError.numberOutOfRange }
    return value
  }

  func double(_ index: Int) throws -> Double {
    guard nodes[index].kind == .double else { throw ValueError.mismatch(expected: "a floating-point number") }
    return Double(bitPattern: nodes[index].payload)
  }

  func float(_ index: Int) throws -> Float {
    guard nodes[index].kind == .float else { throw ValueError.mismatch(expected: "a floating-point number") }
    return Float(bitPattern: UInt32(truncatingIfNeeded: nodes[index].payload))
  }
}
