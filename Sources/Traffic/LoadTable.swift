import MeshConfig
import Primitives
import Synchronization

/// What this node knows of the clusters of one snapshot, by index. Clusters and endpoints that stay keep what is known of them.
public struct LoadTable: Sendable {
  /// One cluster: its counts, and what is known of its hosts.
  public struct Entry: Sendable {
    let name: String
    public let load: SharedLoad
    let members: ClusterMembers
  }

  public private(set) var entries: [Entry] = []
  /// Clusters that were looked at to make this table.
  public let clustersVisited: Int

  /// - Parameters:
  ///   - old: the table of the snapshot before.
  ///   - changed: where clusters are other than in that snapshot, sorted; nil: anywhere.
  public init<Clusters: RandomAccessCollection>(
    _ clusters: Clusters = [Cluster](), after old: LoadTable? = nil, changed: [ClusterIndex]? = nil, now: Instant = .zero
  ) where Clusters.Element == Cluster, Clusters.Index == Int {
    let visited = old == nil ? Array(clusters.indices) : changed ?? Array(clusters.indices)
    clustersVisited = visited.count
    entries = Array((old?.entries ?? []).prefix(clusters.count))
    entries.reserveCapacity(clusters.count)
    var leftOver = LeftOver(old?.entries ?? [], visited: visited, count: clusters.count)
    // Who stays in place goes first: several rules can be in force for different clients of one destination, so names repeat.
    let known = visited.map { leftOver.take($0, clusters[$0].name) }
    for (place, index) in visited.enumerated() {
      let cluster = clusters[index]
      let entry = Self.entry(cluster, after: known[place] ?? leftOver.take(cluster.name), now: now)
      if index < entries.count { entries[index] = entry } else { entries.append(entry) }
    }
  }

  public subscript(_ cluster: ClusterIndex) -> Entry? { entries.indices.contains(cluster) ? entries[cluster] : nil }

  private static func entry(_ cluster: Cluster, after old: Entry?, now: Instant) -> Entry {
    let load = old?.load ?? SharedLoad(now: now, interval: cluster.outlierDetection?.interval)
    return Entry(
      name: cluster.name, load: load, members: ClusterMembers(cluster, after: old?.members, load, now: now))
  }

  /// Entries of the table before whose clusters have changed or have gone from their places.
  private struct LeftOver {
    private let entries: [Entry]
    private var byName: [String: [Int]] = [:]

    init(_ entries: [Entry], visited: [ClusterIndex], count: Int) {
      self.entries = entries
      if entries.isEmpty { return }
      let gone = count < entries.count ? Array(count..<entries.count) : []
      for index in visited.filter({ $0 < min(count, entries.count) }) + gone {
        byName[entries[index].name, default: []].append(index)
      }
    }

    /// The entry in just this place, if it has the name.
    mutating func take(_ index: ClusterIndex, _ name: String) -> Entry? {
      guard index < entries.count, entries[index].name == name,
        let place = byName[name]?.firstIndex(of: index)
      else { return nil }
      byName[name]?.remove(at: place)
      return entries[index]
    }

    mutating func take(_ name: String) -> Entry? {
      guard byName[name]?.isEmpty == false, let index = byName[name]?.removeFirst() else { return nil }
      return entries[index]
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
