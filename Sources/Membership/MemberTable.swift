import Primitives

/// The other members by name, with what this node alone knows of each: sorted, and 64 bytes for each that is well.
struct MemberTable: Hashable, Sendable {
  struct Entry: Hashable, Sendable {
    var member: Member
    /// The highest incarnation heard from the owner itself over an authenticated link; nil while all is hearsay.
    var ownIncarnation: UInt64?
    /// The last word from the member itself, by whatever way.
    var heardAt: Instant?
    private var special: Shared<Special>?

    /// What only few members have at a time.
    private struct Special: Hashable, Sendable {
      var suspicion: Suspicion?
      var doubters: [NodeName] = []
      var introductionAskedAt: Instant?
      var correctedAt: Instant?
    }

    init(member: Member, ownIncarnation: UInt64? = nil, heardAt: Instant? = nil) {
      self.member = member
      self.ownIncarnation = ownIncarnation
      self.heardAt = heardAt
    }

    var state: MemberState { member.state }
    var incarnation: UInt64 { member.record.incarnation }

    /// Present exactly while the state is `suspect`.
    var suspicion: Suspicion? {
      get { special?.value.suspicion }
      set { change { $0.suspicion = newValue } }
    }
    /// Who accused it while its own word was still fresh; they confirm a suspicion that this node comes to by itself.
    var doubters: [NodeName] {
      get { special?.value.doubters ?? [] }
      set { change { $0.doubters = newValue } }
    }
    /// When the member was last asked to introduce itself because of an incredible claim.
    var introductionAskedAt: Instant? {
      get { special?.value.introductionAskedAt }
      set { change { $0.introductionAskedAt = newValue } }
    }
    /// When the member was last told, because of gossip from it, that it is held for dead.
    var correctedAt: Instant? {
      get { special?.value.correctedAt }
      set { change { $0.correctedAt = newValue } }
    }

    private mutating func change(_ body: (inout Special) -> Void) {
      var value = special?.value ?? Special()
      body(&value)
      special = value == Special() ? nil : Shared(value)
    }
  }

  /// Sorted by name, so that no order depends on hashing.
  private(set) var entries: [Entry] = []
  /// Members in state alive or suspect.
  private(set) var liveCount = 0
  /// Names of the suspects, sorted.
  private(set) var suspects: [NodeName] = []

  var count: Int { entries.count }

  subscript(name: NodeName) -> Entry? { place(of: name).map { entries[$0] } }

  /// Makes room for so many at once.
  mutating func reserve(_ count: Int) { entries.reserveCapacity(count) }

  /// Adds or replaces an entry.
  mutating func set(_ entry: Entry) {
    let name = entry.member.name
    var old: MemberState?
    let position = position(of: name)
    if position < entries.count, entries[position].member.name == name {
      old = entries[position].state
      entries[position] = entry
    } else {
      entries.insert(entry, at: position)
    }
    liveCount += (entry.state.isLive ? 1 : 0) - (old.map { $0.isLive ? 1 : 0 } ?? 0)
    trackSuspect(name, was: old == .suspect, is: entry.state == .suspect)
  }

  mutating func remove(_ name: NodeName) {
    guard let place = place(of: name) else { return }
    let old = entries.remove(at: place)
    if old.state.isLive { liveCount -= 1 }
    trackSuspect(name, was: old.state == .suspect, is: false)
  }

  private mutating func trackSuspect(_ name: NodeName, was: Bool, is now: Bool) {
    guard was != now else { return }
    if now {
      suspects.insert(name, at: suspects.firstIndex { name < $0 } ?? suspects.endIndex)
    } else {
      suspects.removeAll { $0 == name }
    }
  }

  /// Changes an entry in place; nothing happens when the name is unknown.
  mutating func update(_ name: NodeName, _ change: (inout Entry) -> Void) {
    guard var entry = self[name] else { return }
    change(&entry)
    set(entry)
  }

  /// Records word from a member without touching its state.
  mutating func heard(_ name: NodeName, at instant: Instant) {
    guard let place = place(of: name) else { return }
    if let heardAt = entries[place].heardAt, heardAt >= instant { return }
    entries[place].heardAt = instant
    if !entries[place].doubters.isEmpty { entries[place].doubters = [] }
  }

  private func place(of name: NodeName) -> Int? {
    let position = position(of: name)
    return position < entries.count && entries[position].member.name == name ? position : nil
  }

  /// Where the name stands or would have to. Newcomers of a sorted list come last.
  private func position(of name: NodeName) -> Int {
    guard let last = entries.last, !(last.member.name < name) else { return entries.count }
    var low = 0
    var high = entries.count
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].member.name < name { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Up to `count` distinct members that satisfy the condition, at random.
  func pick(_ count: Int, using generator: inout SeededGenerator, where condition: (Entry) -> Bool) -> [Entry] {
    guard count > 0, !entries.isEmpty else { return [] }
    var picked: [Entry] = []
    if entries.count <= 2 * count + 16 {
      var candidates = Array(entries.indices)
      generator.shuffle(&candidates)
      for index in candidates where picked.count < count && condition(entries[index]) { picked.append(entries[index]) }
      return picked
    }
    for _ in 0..<(3 * entries.count) where picked.count < count {
      let entry = entries[generator.index(below: entries.count)]
      guard condition(entry) else { continue }
      if !picked.contains(where: { $0.member.name == entry.member.name }) { picked.append(entry) }
    }
    return picked
  }
}
