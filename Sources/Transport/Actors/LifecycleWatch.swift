import Distributed
import Primitives

/// Why a watched actor is gone.
public enum Termination: Hashable, Sendable {
  /// It has ended; another may stand under its name by now, in this process of its node or in a later one.
  case ended
  /// No actor of that name lived on its node when the watch arrived.
  case absent
  /// The cluster has given its node up: it is dead, or has left.
  case nodeGone
  /// Its node watches over as many actors as it may: nothing is known of this one, nor will be.
  case refused
}

/// An actor that is told when others are gone (Akka's death watch; Erlang's monitors).
///
/// Each watch ends with exactly one `terminated`, or none once it is taken back or the watcher has ended. Replies that the
/// watched actor gave on the same link arrive before it. A broken link alone ends no watch: links break when certificates are
/// replaced or packets are lost, calls fail at once then, and whether the node is gone is for the membership to say. The
/// watch is made again on the next link and ends there if the actor has changed meanwhile.
public protocol LifecycleWatch: DistributedActor where ActorSystem == SocketActorSystem {
  /// Called once for each actor that this one watches and that is gone.
  func terminated(_ actor: MeshActorID, because termination: Termination) async
}

extension LifecycleWatch {
  /// Has this actor told when `actor` is gone, at once if it is gone already. To watch twice is to watch once.
  ///
  /// - Throws: `overloaded` when too many are watched, `nodeUnreachable` when no address of its node is known.
  @discardableResult
  public func watchTermination<Watched: MeshActor>(of actor: Watched) throws(MeshError) -> Watched {
    let watched = actor.id
    try actorSystem.watch(watched, for: .actor(id)) { [weak self] termination in
      guard let self else { return }
      Task { await self.whenLocal { await $0.terminated(watched, because: termination) } }
    }
    return actor
  }

  /// Takes the watch back: `terminated` is not called for it unless it was already under way.
  public func unwatchTermination<Watched: MeshActor>(of actor: Watched) {
    actorSystem.unwatch(actor.id, for: .actor(id))
  }
}

/// A watch of something that is no actor; ends with `SocketActorSystem.unwatch`.
public struct ActorWatch: Hashable, Sendable {
  public let actor: MeshActorID
  let number: UInt64
}

/// Who is told.
enum Watcher: Hashable, Sendable {
  case actor(MeshActorID)
  case closure(UInt64)
}
