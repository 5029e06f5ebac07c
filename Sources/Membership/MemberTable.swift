import Primitives

/// The other members by name, with what this node alone knows of each.
struct MemberTable: Hashable, Sendable {
  struct Entry: Hashable, Sendable {
    var member: Member
    /// The highest incarnation heard from the owner itself over an authenticated link; nil while all is hearsay.
    var ownIncarnation: UInt64?
    /// The last word from the member itself, by whatever way.
    var heardAt: Instant?
    /// Present exactly while the state is `suspect`.
    var suspicion: Suspicion?
    /// Who accused it while its own word was still fresh; they confirm a suspicion that this node comes to by itself.
    var doubters: [NodeName] = []
    /// When the member was last asked to introduce itself because of an incredible claim.
    var introductionAskedAt: Instant?
    /// When the member was last told, because of gossip from it, that it is held for dead.
    var correctedAt: Instant?

    var state: MemberState { member.state }
    var incarnation: UInt64 { member.record.incarnation }
  }

  /// Sorted, so that no order depends on hashing.
  private(set) var names: [NodeName] = []
  private var entries: [NodeName: Entry] = [:]
  /// Members in state alive or suspect.
  private(set) var liveCount = 0
  /// Names of the suspects, sorted.
  private(set) var suspects: [NodeName] = []

  var count: Int { names.count }

  subscript(name: NodeName) -> Entry? { entries[name] }

  /// Adds or replaces an entry.
  mutating func set(_ entry: Entry) {
    let name = entry.member.name
    let old = entries.updateValue(entry, forKey: name)
    if old == nil { names.insert(name, at: Self.position(of: name, in: names)) }
    liveCount += (entry.state.isLive ? 1 : 0) - (old.map { $0.state.isLive ? 1 : 0 } ?? 0)
    trackSuspect(name, was: old?.state == .suspect, is: entry.state == .suspect)
  }

  mutating func remove(_ name: NodeName) {
    guard let old = entries.removeValue(forKey: name) else { return }
    names.removeAll { $0 == name }
    if old.state.isLive { liveCount -= 1 }
    trackSuspect(name, was: old.state == .suspect, is: false)
  }

  private mutating func trackSuspect(_ name: NodeName, was: Bool, is now: Bool) {
    guard was != now else { return }
    if now {
      suspects.insert(name, at: Self.position(of: name, in: suspects))
    } else {
      suspects.removeAll { $0 == name }
    }
  }

  /// Changes an entry in place; nothing happens when the name is unknown.
  mutating func update(_ name: NodeName, _ change: (inout Entry) -> Void) {
    guard var entry = entries[name] else { return }
    change(&entry)
    set(entry)
  }

  /// Records word from a member without touching its state.
  mutating func heard(_ name: NodeName, at instant: Instant) {
    guard let last = entries[name] else { return }
    if let heardAt = last.heardAt, heardAt >= instant { return }
    entries[name]?.heardAt = instant
    if !last.doubters.isEmpty { entries[name]?.doubters = [] }
  }

  private static func position(of name: NodeName, in names: [NodeName]) -> Int {
    var low = 0
    var high = names.count
    while low < high {
      let middle = (low + high) / 2
      if names[middle] < name { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Up to `count` distinct members that satisfy the condition, at random.
  func pick(_ count: Int, using generator: inout SeededGenerator, where condition: (Entry) -> Bool) -> [Entry] {
    guard count > 0, !names.isEmpty else { return [] }
    var picked: [Entry] = []
    if names.count <= 2 * count + 16 {
      var candidates = names
      generator.shuffle(&candidates)
      for name in candidates where picked.count < count {
        if let entry = entries[name], condition(entry) { picked.append(entry) }
      }
      return picked
    }
    for _ in 0..<(3 * names.count) where picked.count < count {
      guard let entry = entries[names[generator.index(below: names.count)]], condition(entry) else { continue }
      if !picked.contains(where: { $0.member.name == entry.member.name }) { picked.append(entry) }
    }
    return picked
  }
}
