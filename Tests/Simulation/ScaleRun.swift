import Membership
import Primitives

/// Many nodes' membership and registry in virtual time: how soon news is known by all, and what it costs.
public struct ScaleRun {
  /// Times until each node knew, sorted, and how many never did.
  public struct Spread: Sendable {
    public var delays: [Duration] = []
    public var missing = 0

    public func quantile(_ part: Double) -> Duration {
      delays.isEmpty ? .zero : delays[min(delays.count - 1, Int(Double(delays.count) * part))]
    }
  }

  /// What a node sent in a second, on the average and at most.
  public struct Cost: Sendable {
    public let datagrams: Double
    public let streams: Double
    public let bytes: Double
    public let bytesMax: Double
  }

  public let size: Int
  private var cluster: MembershipCluster
  private var generator = SeededGenerator(seed: 7)
  private let spares: Int

  /// All but a few nodes, which know each other already.
  public init(size: Int, seed: UInt64 = 1, hasRegistry: Bool = true) throws {
    self.size = size
    spares = 5
    var configuration = SWIMConfiguration()
    configuration.membersMax = max(configuration.membersMax, 2 * size)
    cluster = try MembershipCluster(
      size: size, seed: seed, configuration: configuration, knowing: size - spares, hasRegistry: hasRegistry)
    for index in (size - spares)..<size { cluster.network.takeDown(index) }
    for index in 0..<(size - spares) { cluster.begin(index) }
  }

  public var hasRegistry: Bool { cluster.hasRegistry }

  public mutating func run(for time: Duration) { cluster.run(for: time) }

  /// Runs for a while in which one thing in so long changes, and says what that cost.
  public mutating func cost(over time: Duration, changeEvery interval: Duration?) -> Cost {
    cluster.meter?.forgetTraffic()
    let start = cluster.now
    while cluster.now < start + time {
      cluster.run(for: interval ?? time)
      if interval != nil { _ = change(generator.index(below: size - spares)) }
    }
    guard let meter = cluster.meter else { return Cost(datagrams: 0, streams: 0, bytes: 0, bytesMax: 0) }
    let nodes = Double(cluster.upIndices.count) * (cluster.now - start).inSeconds
    return Cost(
      datagrams: Double(meter.datagrams) / nodes, streams: Double(meter.streams) / nodes,
      bytes: Double(meter.bytes.reduce(0, +)) / nodes,
      bytesMax: Double(meter.bytes.max() ?? 0) / (cluster.now - start).inSeconds)
  }

  /// Somebody publishes a workload, or changes it.
  private mutating func change(_ index: Int) -> ScaleMeter.News? {
    let health: WorkloadHealth = generator.chance(0.5) ? .healthy : .starting
    cluster.publish(index, "w", health: health)
    guard let label = try? DNSLabel("w"), let space = try? DNSLabel("default") else { return nil }
    let key = RowKey.workload(cluster.nodes[index].name, namespace: space, name: label)
    return cluster.nodes[index].registry.row(key).map { .row(key, $0.version) }
  }

  private mutating func observe(_ news: ScaleMeter.News?, within limit: Duration, besides index: Int) -> Spread {
    let others = cluster.upIndices.filter { $0 != index }
    let end = cluster.now + limit
    while cluster.now < end, (cluster.meter?.delays.count ?? 0) < others.count { cluster.run(for: .milliseconds(50)) }
    let delays = cluster.meter?.delays ?? [:]
    let known = others.compactMap { delays[$0] }.sorted()
    return Spread(delays: known, missing: others.count - known.count)
  }

  private mutating func join(_ spread: inout Spread, _ other: Spread) {
    spread.delays = (spread.delays + other.delays).sorted()
    spread.missing += other.missing
  }

  public mutating func joins(_ count: Int, within limit: Duration) -> Spread {
    var all = Spread()
    for number in 0..<min(count, spares) {
      let index = size - spares + number
      cluster.restart(index)
      let news = ScaleMeter.News.member(cluster.nodes[index].name, .alive)
      let now = cluster.now
      cluster.meter?.watch(news, from: now)
      join(&all, observe(news, within: limit, besides: index))
    }
    return all
  }

  public mutating func deaths(_ count: Int, within limit: Duration) -> Spread {
    var all = Spread()
    for _ in 0..<count {
      let up = cluster.upIndices.filter { $0 > 3 }
      let index = up[generator.index(below: up.count)]
      cluster.kill(index, resetsLinks: false)
      let news = ScaleMeter.News.member(cluster.nodes[index].name, .dead)
      let now = cluster.now
      cluster.meter?.watch(news, from: now)
      join(&all, observe(news, within: limit, besides: index))
    }
    return all
  }

  public mutating func rows(_ count: Int, within limit: Duration) -> Spread {
    var all = Spread()
    for _ in 0..<count {
      let up = cluster.upIndices
      let index = up[generator.index(below: up.count)]
      let start = cluster.now
      // Those that are told at once hear of it before it is watched for: links take time, so none does.
      let news = change(index)
      cluster.meter?.watch(news, from: start)
      join(&all, observe(news, within: limit, besides: index))
    }
    return all
  }

  /// Nodes that hold a running node for anything but alive.
  public var mistaken: Int {
    let up = cluster.upIndices
    return up.reduce(0) { sum, index in
      sum + (up.count - cluster.nodes[index].swim.members.count { $0.state == .alive && cluster.network.isUp(number(of: $0)) })
    }
  }

  private func number(of member: Member) -> Int { parseDecimal(member.name.string.utf8.dropFirst()).map { Int($0) } ?? 0 }
}
