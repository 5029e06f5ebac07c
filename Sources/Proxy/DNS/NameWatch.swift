import Primitives
import Synchronization
import Transport

/// Keeps the addresses of names known that endpoints are made of: asks again when the life of an answer is over, keeps the last
/// good one, and tells when a name has others (Envoy's STRICT_DNS).
final class NameWatch: Sendable {
  private struct State {
    /// Names that are asked for, each with a number that tells it from an earlier wish for the same name.
    var wanted: [String: UInt64] = [:]
    var known: [String: [IPAddress]] = [:]
    var nextNumber: UInt64 = 0
    var changed: (@Sendable () -> Void)?
  }

  private let resolver: Resolver
  private let state = Mutex(State())

  init(_ resolver: Resolver) { self.resolver = resolver }

  /// Addresses by name, as far as they are known.
  var addresses: [String: [IPAddress]] { state.withLock { $0.known } }

  /// Makes these all the names that are kept known. `changed` is called on the resolver's thread when one has other addresses.
  func watch(_ names: [String], changed: @escaping @Sendable () -> Void) {
    let new = state.withLock { state -> [(String, UInt64)] in
      state.changed = changed
      let wanted = Set(names)
      guard wanted != Set(state.wanted.keys) else { return [] }
      state.wanted = state.wanted.filter { wanted.contains($0.key) }
      state.known = state.known.filter { wanted.contains($0.key) }
      return names.compactMap { name in
        guard state.wanted[name] == nil else { return nil }
        state.nextNumber &+= 1
        state.wanted[name] = state.nextNumber
        return (name, state.nextNumber)
      }
    }
    for (name, number) in new { ask(name, number) }
  }

  private func ask(_ name: String, _ number: UInt64) {
    resolver.ask(name) { addresses, life in
      let changed = self.state.withLock { state -> (@Sendable () -> Void)?? in
        guard state.wanted[name] == number else { return nil }
        guard !addresses.isEmpty, Set(addresses) != Set(state.known[name] ?? []) else { return .some(nil) }
        state.known[name] = addresses
        return .some(state.changed)
      }
      guard let changed else { return }
      changed?()
      self.resolver.after(life) { self.askAgain(name, number) }
    }
  }

  private func askAgain(_ name: String, _ number: UInt64) {
    guard state.withLock({ $0.wanted[name] == number }) else { return }
    ask(name, number)
  }
}
