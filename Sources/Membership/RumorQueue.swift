import Primitives

/// Rumors still to be told, least often told first, newest first among equals (SWIM §4.1).
struct RumorQueue: Hashable, Sendable {
  private struct Item: Hashable, Sendable {
    let rumor: Rumor
    let bytes: Int
  }

  /// `buckets[t]` holds what was told `t` times, oldest first.
  private var buckets: [[Item]] = []

  var isEmpty: Bool { buckets.allSatisfy(\.isEmpty) }
  var count: Int { buckets.reduce(0) { $0 + $1.count } }

  /// Queues a rumor in place of those it makes pointless: all about the same member, except other accusers' accusations.
  mutating func enqueue(_ rumor: Rumor) {
    for index in buckets.indices { buckets[index].removeAll { Self.supersedes(rumor, $0.rumor) } }
    if buckets.isEmpty { buckets.append([]) }
    buckets[0].append(Item(rumor: rumor, bytes: rumor.encodedBytes))
  }

  private static func supersedes(_ new: Rumor, _ old: Rumor) -> Bool {
    guard new.subject == old.subject else { return false }
    if case .suspect(_, let newIncarnation, let newAccuser) = new, case .suspect(_, let oldIncarnation, let oldAccuser) = old {
      return newAccuser == oldAccuser || newIncarnation > oldIncarnation
    }
    return true
  }

  /// Takes rumors that fit `bytesMax` together; each is dropped once it was told `transmissionsMax` times.
  mutating func take(bytesMax: Int, countMax: Int, transmissionsMax: Int) -> [Rumor] {
    var taken: [Rumor] = []
    var left = bytesMax
    var moved: [(told: Int, item: Item)] = []
    for told in buckets.indices {
      var kept: [Item] = []
      for item in buckets[told].reversed() {
        if item.bytes <= left, taken.count < countMax {
          left -= item.bytes
          taken.append(item.rumor)
          moved.append((told + 1, item))
        } else {
          kept.append(item)
        }
      }
      buckets[told] = kept.reversed()
    }
    for (told, item) in moved.reversed() where told < transmissionsMax {
      while buckets.count <= told { buckets.append([]) }
      buckets[told].append(item)
    }
    return taken
  }

  /// Forgets what is queued about a member.
  mutating func drop(about name: NodeName) {
    for index in buckets.indices { buckets[index].removeAll { $0.rumor.subject == name } }
  }

  mutating func removeAll() { buckets = [] }
}
