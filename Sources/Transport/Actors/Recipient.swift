import Distributed
import Primitives

/// A local actor as remote calls see it: its mailbox, the targets of its type, and how to run one of them.
final class Recipient: Sendable {
  let mailbox = Mailbox()
  /// Tells this actor from others that had its name before or in another process; never zero.
  let life: UInt64
  private let targets: [String: MeshTarget]
  private let mayCall: @Sendable (MeshTarget, NodeName) -> Bool
  private let run: @Sendable (MeshTarget, inout MeshInvocationDecoder, MeshResultHandler) async throws -> Void
  private let find: @Sendable () -> (any MeshActor)?

  /// Holds the actor weakly: who made it keeps it.
  init<Act: MeshActor>(_ actor: Act, life: UInt64, system: SocketActorSystem) {
    Act.checkTargets()
    self.life = life
    targets = Dictionary(Act.targets.map { ($0.signature.identifier, $0) }, uniquingKeysWith: { first, _ in first })
    mayCall = { Act.authorize($0, caller: $1) }
    find = { [weak actor] in actor }
    run = { [weak actor, unowned system] target, decoder, handler in
      guard let actor else { throw MeshError(.unknownActor, "\(Act.name) has ended") }
      try await system.executeDistributedTarget(
        on: actor, target: RemoteCallTarget(target.signature.identifier), invocationDecoder: &decoder, handler: handler)
    }
  }

  var actor: (any MeshActor)? { find() }

  /// The target of that name if it is one of the recipient's own type and the caller may call it.
  func target(_ identifier: String, actor: String, caller: NodeName) throws(MeshError) -> MeshTarget {
    guard let target = targets[identifier] else {
      throw MeshError(.unknownTarget, "\(actor) has no target '\(identifier)'; the nodes may run different versions")
    }
    guard mayCall(target, caller) else {
      throw MeshError(.unauthorized, "\(caller) may not call '\(identifier)' of \(actor)")
    }
    return target
  }

  /// Runs the target and returns the body of its reply; whatever happens there is one.
  func execute(_ target: MeshTarget, body: [UInt8], head: RequestHead) async -> [UInt8] {
    if let run = target.run { return await execute(run, body: body, head: head) }
    let handler = MeshResultHandler()
    do {
      var decoder = try MeshInvocationDecoder(body: body, head: head)
      try await run(target, &decoder, handler)
    } catch {
      return handler.reply ?? MeshError(wrapping: error).replyBody
    }
    return handler.reply ?? MeshError(.internal, "the target ended without a result").replyBody
  }

  private func execute(_ run: MeshTarget.Run, body: [UInt8], head: RequestHead) async -> [UInt8] {
    do {
      guard let actor else { throw MeshError(.unknownActor, "the actor has ended") }
      var decoder = try MeshInvocationDecoder(body: body, head: head)
      return try await run(actor, &decoder)
    } catch {
      return MeshError(wrapping: error).replyBody
    }
  }
}
