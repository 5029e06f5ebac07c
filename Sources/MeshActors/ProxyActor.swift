import Distributed
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

  /// The revision this node's workers serve.
  public distributed func servedRevision() async -> UInt64 { await keeper.servedRevision }
}
