import Distributed
import Membership
import Primitives
import Transport

/// Answers for this node's data plane.
public distributed actor ProxyActor: MeshActor {
  public static let name = "proxy"
  public static let targets = ActorTargets.proxy
  public static func authorize(_ target: MeshTarget, caller: NodeName) -> Bool { true }

  private let keeper: SnapshotKeeper

  public init(keeper: SnapshotKeeper, actorSystem: SocketActorSystem) {
    self.keeper = keeper
    self.actorSystem = actorSystem
  }

  /// Returns when this node's workers serve the revision or a later one; the revision they serve.
  public distributed func awaitServing(revision: UInt64) async throws -> UInt64 {
    try await keeper.awaitServing(revision: revision)
  }

  /// Returns when this node's workers route by a signed row, or by a later one in its place.
  public distributed func awaitRouting(row: [UInt8]) async throws {
    guard case .rows(let rows, _)? = try? RegistryMessage(decoding: row), rows.count == 1,
      let signed = rows.first, let named = try? Row(payload: signed.payload)
    else { throw MeshError(.invalid, "not a row") }
    try await keeper.awaitRouting(named.key, named.version)
  }

  /// The revision this node's workers serve.
  public distributed func servedRevision() async -> UInt64 { await keeper.servedRevision }
}
