import Primitives

/// The workloads of a snapshot by index and by key. Copies share their parts, as those of `ChunkedArray`.
///
/// An index stays while its workload does, but for the last one, which moves into the place of one that is gone.
public struct WorkloadTable: RandomAccessCollection, Sendable {
  private var facts = ChunkedArray<WorkloadFacts>()
  /// Places by hash of the key; the shard is the hash's low bits.
  private var shards: [[Place]] = [[]]

  private struct Place: Sendable {
    let hash: UInt32
    var index: Int32
  }
  /// Places that a shard may have on average before there are more shards.
  private static let shardPlaces = 16

  public init() {}
  public init(_ workloads: some Sequence<WorkloadFacts>) { for workload in workloads { append(workload) } }

  public var startIndex: Int { 0 }
  public var endIndex: Int { facts.count }
  public subscript(_ index: WorkloadIndex) -> WorkloadFacts { facts[index] }

  /// The workload called `<namespace>/<workload name>@<node>`.
  public func index(ofKey key: Span<UInt8>) -> WorkloadIndex? {
    var hash = KeyHash()
    for position in key.indices { hash.add(key[position]) }
    let wanted = hash.value
    for place in shards[Int(wanted) & (shards.count - 1)] where place.hash == wanted {
      if Self.has(facts[Int(place.index)], key) { return Int(place.index) }
    }
    return nil
  }

  public func index(ofKey key: [UInt8]) -> WorkloadIndex? { index(ofKey: key.span) }

  // MARK: Changing

  mutating func append(_ workload: WorkloadFacts) {
    if facts.count >= shards.count * Self.shardPlaces { grow() }
    file(Place(hash: Self.hash(workload), index: Int32(clamping: facts.count)))
    facts.append(workload)
  }

  /// Puts newer facts of the same workload in place.
  mutating func replace(at index: WorkloadIndex, with workload: WorkloadFacts) { facts.replace(at: index, with: workload) }

  /// Removes a workload; the last one takes its index.
  mutating func remove(at index: WorkloadIndex) {
    let last = facts.count - 1
    let gone = Self.hash(facts[index])
    shards[Int(gone) & (shards.count - 1)].removeAll { $0.index == index }
    if index != last {
      let moved = facts[last]
      let shard = Int(Self.hash(moved)) & (shards.count - 1)
      if let place = shards[shard].firstIndex(where: { $0.index == last }) {
        shards[shard][place].index = Int32(clamping: index)
      }
      facts.replace(at: index, with: moved)
    }
    facts.removeLast()
  }

  private mutating func file(_ place: Place) { shards[Int(place.hash) & (shards.count - 1)].append(place) }

  private mutating func grow() {
    let places = shards.flatMap { $0 }
    shards = Array(repeating: [], count: shards.count * 4)
    for place in places { file(place) }
  }

  // MARK: Keys

  /// FNV-1a, folded to 32 bits. Keys come from signed registrations, not from clients.
  private struct KeyHash {
    private var state: UInt64 = 0xCBF2_9CE4_8422_2325
    mutating func add(_ byte: UInt8) { state = (state ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    var value: UInt32 { UInt32(truncatingIfNeeded: state ^ (state >> 32)) }
  }

  private static func hash(_ workload: WorkloadFacts) -> UInt32 {
    var hash = KeyHash()
    for byte in workload.namespace.utf8 { hash.add(byte) }
    hash.add(0x2F)
    for byte in workload.name.utf8 { hash.add(byte) }
    hash.add(0x40)
    for byte in workload.node.string.utf8 { hash.add(byte) }
    return hash.value
  }

  private static func has(_ workload: WorkloadFacts, _ key: Span<UInt8>) -> Bool {
    let parts = (workload.namespace.utf8, workload.name.utf8, workload.node.string.utf8)
    let slash = parts.0.count
    let at = slash + 1 + parts.1.count
    guard key.count == at + 1 + parts.2.count, key[slash] == 0x2F, key[at] == 0x40 else { return false }
    return equal(parts.0, key, from: 0) && equal(parts.1, key, from: slash + 1) && equal(parts.2, key, from: at + 1)
  }

  private static func equal(_ text: String.UTF8View, _ key: Span<UInt8>, from start: Int) -> Bool {
    var position = start
    for byte in text {
      if key[position] != byte { return false }
      position += 1
    }
    return true
  }
}
