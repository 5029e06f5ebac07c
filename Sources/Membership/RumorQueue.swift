import Primitives

/// Rumors still to be told, least often told first, newest first among equals (SWIM §4.1).
struct RumorQueue: Hashable, Sendable {
  private struct Item: Hashable, Sendable {
    let rumor: Rumor
    let bytes: Int
  }

  /// `buckets[t]` holds what was told `t` times, oldest first.
  private var buckets: [[Item]] = []
  /// How many are queued about each member, so that news about a new one does not search for older.
  private var subjects: [NodeName: Int] = [:]

  var isEmpty: Bool { subjects.isEmpty }
  var count: Int { buckets.reduce(0) { $0 + $1.count } }

  /// Queues a rumor in place of those it makes pointless: all about the same member, except other accusers' accusations.
  mutating func enqueue(_ rumor: Rumor) {
    remove(about: rumor.subject) { Self.supersedes(rumor, $0) }
    if buckets.isEmpty { buckets.append([]) }
    buckets[0].append(Item(rumor: rumor, bytes: rumor.encodedBytes))
    subjects[rumor.subject, default: 0] += 1
  }

  private mutating func remove(about name: NodeName, where condition: (Rumor) -> Bool) {
    guard let known = subjects[name] else { return }
    var left = known
    for index in buckets.indices {
      let before = buckets[index].count
      buckets[index].removeAll { $0.rumor.subject == name && condition($0.rumor) }
      left -= before - buckets[index].count
    }
    subjects[name] = left > 0 ? left : nil
  }

  private static func supersedes(_ new: Rumor, _ old: Rumor) -> Bool {
    guard new.subject == old.subject else { return false }
    if case .suspect(_, let newIncarnation, let newAccuser) = new, case .suspect(_, let oldIncarnation, let oldAccuser) = old {
      return newAccuser == oldAccuser || newIncarnation > oldIncarnation
    }
    return true
  }

  /// Takes rumors that fit `bytesMax` together; each is dropped once it was told `transmissionsMax` times. What is left of a bucket
  /// once nothing more fits is not looked at.
  mutating func take(bytesMax: Int, countMax: Int, transmissionsMax: Int) -> [Rumor] {
    var taken: [Rumor] = []
    var left = bytesMax
    var moved: [(told: Int, item: Item)] = []
    for told in buckets.indices {
      var kept: [Item] = []
      while left >= Self.smallestBytes, taken.count < countMax, let item = buckets[told].popLast() {
        if item.bytes <= left {
          left -= item.bytes
          taken.append(item.rumor)
          moved.append((told + 1, item))
        } else {
          kept.append(item)
        }
      }
      buckets[told] += kept.reversed()
    }
    for (told, item) in moved.reversed() {
      guard told < transmissionsMax else {
        let name = item.rumor.subject
        subjects[name] = subjects[name].flatMap { $0 > 1 ? $0 - 1 : nil }
        continue
      }
      while buckets.count <= told { buckets.append([]) }
      buckets[told].append(item)
    }
    return taken
  }

  /// Bytes that no rumor is shorter than: a kind, a name of one letter, an incarnation.
  private static let smallestBytes = 4

  /// Forgets what is queued about a member.
  mutating func drop(about name: NodeName) { remove(about: name) { _ in true } }

  mutating func removeAll() {
    buckets = []
    subjects = [:]
  }
}
