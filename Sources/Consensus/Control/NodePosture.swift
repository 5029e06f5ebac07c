import Primitives

/// What an operator asked a node to be.
public enum NodePosture: UInt8, Hashable, Sendable, CaseIterable, CustomStringConvertible {
  case active = 0
  /// Keeps its membership, but takes no role, no vote and no new traffic until it is made active again.
  case draining = 1
  /// Goes for good: as `draining`, and it ends once it votes no more. Its next start makes it active.
  case leaving = 2
  /// Dead, and about to be forgotten: it loses its vote before its name is free again.
  case gone = 3

  public var description: String {
    switch self {
    case .active: "active"
    case .draining: "draining"
    case .leaving: "leaving"
    case .gone: "gone"
    }
  }
}

/// A key that gossip datagrams are sealed with.
public struct GossipKey: Hashable, Sendable {
  public static let byteCount = 32
  /// Goes into every datagram. The key made from the join secret has 1; these begin at 2 and wrap to 2.
  public let id: UInt8
  public let bytes: [UInt8]

  public init(id: UInt8, bytes: [UInt8]) {
    self.id = id
    self.bytes = bytes
  }

  static let firstID: UInt8 = 2
  static func id(after last: UInt8?) -> UInt8 { last.map { $0 == .max ? firstID : $0 + 1 } ?? firstID }

  func encode(to writer: inout ByteWriter) {
    writer.uint8(id)
    writer.raw(bytes)
  }

  init(from reader: inout ByteReader) throws(ByteError) {
    id = try reader.uint8()
    guard id >= Self.firstID else { throw .malformed }
    bytes = Array(try reader.bytes(count: Self.byteCount))
  }
}
