import Primitives

/// Where a distributed actor lives and what it is called there. A plain value: it names, it grants nothing.
public struct MeshActorID: Hashable, Sendable, Codable, CustomStringConvertible {
  public let node: NodeName
  public let name: String

  public init(node: NodeName, name: String) {
    self.node = node
    self.name = name
  }

  public var description: String { "\(name)@\(node)" }
}
