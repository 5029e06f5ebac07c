import MeshConfig
import Primitives
import Synchronization

/// What this node knows of the clusters of one snapshot, by index. Clusters and endpoints that stay keep what is known of them,
/// and of a cluster that nobody has called nothing is.
public struct LoadTable: Sendable {
  /// One cluster: its counts, and what is known of its hosts.
  public final class Entry: Sendable {
    let name: String
    public let load: SharedLoad
    let members: ClusterMembers

    fileprivate init(_ cluster: Cluster, after old: Entry?, now: Instant) {
      name = cluster.name
      load = old?.load ?? SharedLoad(now: now, interval: cluster.outlierDetection?.interval)
      members = ClusterMembers(cluster, after: old?.members, load, now: now)
    }
  }

  /// Shared by the tables of all snapshots in which the cluster is the same.
  private final class Cell: Sendable {
    let entry = AtomicLazyReference<Entry>()

    init(_ known: Entry? = nil) { if let known { _ = entry.storeIfNil(known) } }
  }

  private var cells: [Cell] = []
  private let now: Instant
  /// Clusters that were looked at to make this table.
  public let clustersVisited: Int

  /// - Parameters:
  ///   - old: the table of the snapshot before.
  ///   - changed: where clusters are other than in that snapshot, sorted; nil: anywhere.
  public init(_ clusters: ClusterTable, after old: LoadTable? = nil, changed: [ClusterIndex]? = nil, now: Instant = .zero) {
    let visited = old == nil ? Array(clusters.indices) : changed ?? Array(clusters.indices)
    clustersVisited = visited.count
    self.now = now
    cells = Array((old?.cells ?? []).prefix(clusters.count))
    cells.reserveCapacity(clusters.count)
    var leftOver = LeftOver(old?.cells ?? [], visited: visited, count: clusters.count)
    // Who stays in place goes first: several rules can be in force for different clients of one destination, so names repeat.
    let known = visited.map { index in leftOver.isEmpty ? nil : leftOver.take(index, clusters.name(index)) }
    for (place, index) in visited.enumerated() {
      let old = known[place] ?? (leftOver.isEmpty ? nil : leftOver.take(clusters.name(index)))
      let cell = Self.cell(of: index, clusters, after: old, now: now)
      if index < cells.count { cells[index] = cell } else { cells.append(cell) }
    }
  }

  public init(_ clusters: [Cluster] = [], after old: LoadTable? = nil, changed: [ClusterIndex]? = nil, now: Instant = .zero) {
    self.init(ClusterTable(clusters), after: old, changed: changed, now: now)
  }

  private static func cell(of index: ClusterIndex, _ clusters: ClusterTable, after old: Entry?, now: Instant) -> Cell {
    if let old { return Cell(Entry(clusters[index], after: old, now: now)) }
    // Who starts slowly has to be seen when it comes, called or not.
    guard let cluster = clusters.ifInUse(index), cluster.loadBalancer.warmup != nil else { return Cell() }
    return Cell(Entry(cluster, after: nil, now: now))
  }

  public var count: Int { cells.count }

  /// What is known of a cluster, from now on if nothing was.
  ///
  /// - Parameter cluster: the one at this index.
  public func entry(_ index: ClusterIndex, of cluster: @autoclosure () -> Cluster) -> Entry {
    let cell = cells[index]
    return cell.entry.load() ?? cell.entry.storeIfNil(Entry(cluster(), after: nil, now: now))
  }

  /// What is known of a cluster; nil: nobody has called it.
  public func known(_ index: ClusterIndex) -> Entry? { cells.indices.contains(index) ? cells[index].entry.load() : nil }

  /// Entries of the table before whose clusters have changed or have gone from their places.
  private struct LeftOver {
    private var byIndex: [ClusterIndex: Entry] = [:]
    private var byName: [String: [ClusterIndex]] = [:]

    init(_ cells: [Cell], visited: [ClusterIndex], count: Int) {
      if cells.isEmpty { return }
      let gone = count < cells.count ? Array(count..<cells.count) : []
      for index in visited.filter({ $0 < min(count, cells.count) }) + gone {
        guard let entry = cells[index].entry.load() else { continue }
        byIndex[index] = entry
        byName[entry.name, default: []].append(index)
      }
    }

    var isEmpty: Bool { byIndex.isEmpty }

    /// The entry in just this place, if it has the name.
    mutating func take(_ index: ClusterIndex, _ name: String) -> Entry? {
      guard let entry = byIndex[index], entry.name == name, let place = byName[name]?.firstIndex(of: index) else { return nil }
      byName[name]?.remove(at: place)
      byIndex[index] = nil
      return entry
    }

    mutating func take(_ name: String) -> Entry? {
      guard byName[name]?.isEmpty == false, let index = byName[name]?.removeFirst() else { return nil }
      return byIndex.removeValue(forKey: index)
    }
  }
}

/// The hosts of a cluster and where keys lead, made when the cluster is first used: most of a large mesh never is.
final class ClusterMembers: Sendable {
  struct Made: Sendable {
    /// In the order of `Cluster.endpoints`.
    let hosts: [SharedHost]
    let hashing: HashTable?
  }

  private let made: Mutex<Made?>

  init(_ cluster: Cluster, after old: ClusterMembers?, _ load: SharedLoad, now: Instant) {
    let before = old?.made.withLock { $0 }
    // Who starts slowly has to be seen when it comes, used or not.
    guard before != nil || cluster.loadBalancer.warmup != nil else {
      made = Mutex(nil)
      return
    }
    let hosts = Self.hosts(cluster, after: before?.hosts, now: now)
    for (host, endpoint) in zip(hosts, cluster.endpoints) where host.adopt(endpoint.health, at: now) { load.changed() }
    if before != nil { load.recountEjections(hosts) }
    made = Mutex(Made(hosts: hosts, hashing: HashTable.of(cluster, after: before?.hashing)))
  }

  var isMade: Bool { made.withLock { $0 != nil } }

  /// - Parameter cluster: the one that this was made for.
  func of(_ cluster: Cluster) -> Made {
    made.withLock { made in
      if let made { return made }
      let now = Made(hosts: Self.hosts(cluster, after: nil, now: .zero), hashing: HashTable.of(cluster, after: nil))
      made = now
      return now
    }
  }

  private static func hosts(_ cluster: Cluster, after old: [SharedHost]?, now: Instant) -> [SharedHost] {
    guard let old else { return cluster.endpoints.map { SharedHost($0, warmsSince: nil) } }
    if cluster.endpoints.elementsEqual(old, by: { $0.key == $1.key }) { return old }
    let known = Dictionary(old.map { ($0.key, $0) }) { first, _ in first }
    // The first endpoints of a cluster have nobody to take over from.
    let warmsSince = old.isEmpty ? nil : now
    return cluster.endpoints.map { known[$0.key] ?? SharedHost($0, warmsSince: warmsSince) }
  }
}
