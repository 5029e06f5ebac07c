import Distributed
import Primitives
import Synchronization

/// The actors that live on this node, by name.
final class ActorRegistry: Sendable {
  private let state = Mutex(State())

  private struct State {
    var recipients: [String: Recipient] = [:]
    var unnamed: UInt64 = 0
    /// Begins at random, so that the lives of another process are others.
    var nextLife = UInt64.random(in: .min ... .max)
  }

  /// A name for an actor whose type has none of its own.
  func unusedName(of type: Any.Type) -> String {
    state.withLock { state in
      state.unnamed &+= 1
      return "\(type)#\(state.unnamed)"
    }
  }

  func unusedLife() -> UInt64 {
    state.withLock { state in
      repeat { state.nextLife &+= 1 } while state.nextLife == 0
      return state.nextLife
    }
  }

  func recipient(_ name: String) -> Recipient? { state.withLock { $0.recipients[name] } }

  /// The life of the actor of that name, if it lives.
  func life(of name: String) -> UInt64? {
    guard let recipient = recipient(name), recipient.actor != nil else { return nil }
    return recipient.life
  }

  /// Gives the name to an actor, and returns the one that had it and has ended.
  func insert(_ recipient: Recipient, as name: String) -> Recipient? {
    state.withLock { state in
      precondition(state.recipients[name]?.actor == nil, "two actors named '\(name)' cannot live on one node")
      return state.recipients.updateValue(recipient, forKey: name)
    }
  }

  /// Frees the name of an actor that has ended and returns what stood for it; nil when another has the name already.
  func removeEnded(_ name: String) -> Recipient? {
    state.withLock { state in
      guard let recipient = state.recipients[name], recipient.actor == nil else { return nil }
      state.recipients[name] = nil
      return recipient
    }
  }
}
