import Cluster
import Membership
import Primitives
import Transport

/// The workloads of this node: registered by those who run them, watched, published when healthy, withdrawn before they
/// stop.
public actor LocalWorkloads {
  public typealias EventSink = @Sendable (WorkloadEvent) -> Void

  private struct Entry {
    var registration: WorkloadRegistration
    /// Names the registration among those that used the key; a late end of an older one changes nothing.
    var token: UInt64
    var outboundPort: UInt16
    var health: WorkloadHealth
    var createdAt: UInt64
    var sink: EventSink
    var watch: Task<Void, Never>?
  }

  /// Times of the health check; a healthy workload is published at once, an unhealthy one taken out soon.
  public struct Timing: Sendable {
    /// Between two questions while the application is starting, or its answers have changed; never longer than its period.
    public var startingInterval: Duration = .milliseconds(100)
    /// How long a leaving workload waits for all nodes to say that they no longer choose it.
    public var agreement: Duration = .seconds(2)
    /// How much longer it serves when some node has not said so.
    public var leaveGrace: Duration = .milliseconds(400)
    /// How long requests under way may take once nobody chooses it.
    public var finishing: Duration = .seconds(5)
    /// Without a request for so long it has finished: one that was chosen before the others agreed has come by then.
    public var quiet: Duration = .milliseconds(50)
    /// How long a new registration waits for one of the same name to end.
    public var replacementPatience: Duration = .milliseconds(600)
    public init() {}
  }

  private let cluster: ClusterRuntime
  private let loop: EventLoop
  private let outboundFirst: UInt16
  private let timing: Timing
  private let wallMilliseconds: @Sendable () -> UInt64
  private let agreement: RoutingAgreement
  /// Requests that a workload has not answered yet.
  private let underWay: @Sendable (WorkloadKey) -> Int
  /// Called after every change, before the registration is answered: opens the outbound listener, gets the certificate.
  private let prepare: @Sendable () async throws -> Void
  private var entries: [WorkloadKey: Entry] = [:]
  /// Counts changes of `entries` that others have to know.
  private var version: UInt64 = 0
  private var nextToken: UInt64 = 0
  private var isClosed = false
  /// Workloads one node fronts at most: each has a listener for every worker.
  private static let entriesMax = 1_000

  public init(
    cluster: ClusterRuntime, loop: EventLoop, outboundFirst: UInt16, timing: Timing = Timing(),
    wallMilliseconds: @escaping @Sendable () -> UInt64, agreement: RoutingAgreement,
    underWay: @escaping @Sendable (WorkloadKey) -> Int, prepare: @escaping @Sendable () async throws -> Void
  ) {
    self.cluster = cluster
    self.loop = loop
    self.outboundFirst = outboundFirst
    self.timing = timing
    self.wallMilliseconds = wallMilliseconds
    self.agreement = agreement
    self.underWay = underWay
    self.prepare = prepare
  }

  /// What the workloads of this node need of it, at one moment.
  public struct Needs: Sendable {
    /// Grows with every change, so that an older answer never replaces a newer one.
    public var version: UInt64
    public var outboundPorts: [WorkloadKey: UInt16]
    public var forwards: [WorkloadKey: [PortForward]]
    /// The identities, each with the workload that shows that this node hosts it.
    public var accounts: [AccountKey: WorkloadKey]
  }

  public var needs: Needs {
    var accounts: [AccountKey: WorkloadKey] = [:]
    // A healthy workload shows an account better than one that leaves.
    for (key, entry) in entries.sorted(by: { $0.key < $1.key }) {
      let account = AccountKey(
        namespace: entry.registration.namespace, serviceAccount: entry.registration.serviceAccount)
      if entry.health != .leaving || accounts[account] == nil { accounts[account] = key }
    }
    return Needs(
      version: version, outboundPorts: entries.mapValues(\.outboundPort),
      forwards: entries.mapValues(\.registration.forwards), accounts: accounts)
  }

  /// Takes a workload in. It is published as `starting` until its first health check succeeds. The token ends it.
  public func register(_ registration: WorkloadRegistration, sink: @escaping EventSink) async throws -> UInt64 {
    await formerEnds(registration.key)
    guard !isClosed else { throw MeshError(.unavailable, "this node is stopping") }
    guard entries[registration.key] == nil else {
      throw MeshError(
        .conflict, "this node already has a workload \(registration.key); choose another --name, or end the other one")
    }
    guard entries.count < Self.entriesMax else {
      throw MeshError(.tooLarge, "this node fronts \(Self.entriesMax) workloads already")
    }
    for forward in registration.forwards where !isFree(forward.port) {
      throw MeshError(
        .conflict, "port \(forward.port) of \(cluster.local.address.host) is in use; choose another for --forward")
    }
    nextToken &+= 1
    let token = nextToken
    let port = try choosePort(registration.outboundPort)
    entries[registration.key] = Entry(
      registration: registration, token: token, outboundPort: port, health: .starting, createdAt: wallMilliseconds(), sink: sink
    )
    version &+= 1
    do {
      try await publish(registration.key)
      try await prepare()
    } catch {
      await remove(registration.key, token: token)
      throw error
    }
    guard entries[registration.key]?.token == token else {
      throw MeshError(.cancelled, "the registration ended before it was complete")
    }
    sink(.registered(outboundAddress: cluster.local.address.host, outboundPort: port))
    entries[registration.key]?.watch = Task { await self.watch(registration.key, token: token) }
    return token
  }

  /// A workload that is started again at once may find its former registration about to end.
  private func formerEnds(_ key: WorkloadKey) async {
    let deadline = ContinuousClock.now + timing.replacementPatience
    while entries[key] != nil, !isClosed, ContinuousClock.now < deadline { try? await Task.sleep(for: .milliseconds(25)) }
  }

  /// Leave before stop: returns when no node chooses the workload any more and it has answered what it was sent. Its own
  /// calls go on until whoever runs it ends the registration.
  public func withdraw(_ key: WorkloadKey) async throws {
    guard let entry = entries[key] else { throw MeshError(.notFound, "this node has no workload \(key)") }
    // Nobody has its token yet, so that nobody could end it later; and it has never been healthy: no node chooses it.
    if entry.watch == nil { return await remove(key, token: entry.token) }
    await leave([key])
    entry.sink(.withdrawn)
  }

  private func leave(_ keys: [WorkloadKey]) async {
    for key in keys {
      entries[key]?.watch?.cancel()
      entries[key]?.health = .leaving
      try? await publish(key)
    }
    guard !keys.isEmpty else { return }
    version &+= 1
    let lagging = await agreement.wait(for: keys, within: timing.agreement)
    if !lagging.isEmpty { try? await Task.sleep(for: timing.leaveGrace) }
    let deadline = ContinuousClock.now + timing.finishing
    var quietSince = ContinuousClock.now
    while ContinuousClock.now < deadline, quietSince.duration(to: .now) < timing.quiet {
      if keys.contains(where: { underWay($0) > 0 }) { quietSince = .now }
      try? await Task.sleep(for: .milliseconds(5))
    }
  }

  /// Whoever ran the workload is gone: it is taken out at once.
  public func ended(_ key: WorkloadKey, token: UInt64) async { await remove(key, token: token) }

  /// Tells the others that the workloads leave with their node, and lets those finish what they were sent.
  public func leave() async {
    isClosed = true
    for (key, entry) in entries.sorted(by: { $0.key < $1.key }) where entry.watch == nil {
      await remove(key, token: entry.token)
    }
    await leave(entries.keys.sorted())
  }

  /// Withdraws everything, as the node stops.
  public func close() async {
    for key in entries.keys.sorted() { if let token = entries[key]?.token { await remove(key, token: token) } }
  }

  private func remove(_ key: WorkloadKey, token: UInt64) async {
    guard let entry = entries[key], entry.token == token else { return }
    entry.watch?.cancel()
    entries[key] = nil
    version &+= 1
    try? await cluster.withdraw(namespace: key.namespace, name: key.name)
    try? await prepare()
  }

  // MARK: Health

  private func watch(_ key: WorkloadKey, token: UInt64) async {
    var tally = HealthTally()
    if let delay = entries[key]?.registration.healthCheck.initialDelay { try? await Task.sleep(for: delay) }
    while !Task.isCancelled, let entry = entries[key], entry.token == token {
      let registration = entry.registration
      guard let address = try? SocketAddress(parsing: "\(registration.address):\(registration.port.port)") else { return }
      let check = registration.healthCheck
      let verdict = await HealthProbe.probe(address, check, on: loop)
      guard !Task.isCancelled, entries[key]?.token == token else { return }
      switch tally.count(verdict, isHealthy: entry.health == .healthy, check) {
      case .healthy: await became(.healthy, key, token, .healthy)
      case .unhealthy(let reason): await became(.unhealthy, key, token, .unhealthy(reason: reason))
      case nil: break
      }
      guard let health = entries[key]?.health else { return }
      let isSoon = health == .starting || tally.isUndecided(isHealthy: health == .healthy)
      try? await Task.sleep(for: isSoon ? min(timing.startingInterval, check.period) : check.period)
    }
  }

  private func became(_ health: WorkloadHealth, _ key: WorkloadKey, _ token: UInt64, _ event: WorkloadEvent) async {
    guard let entry = entries[key], entry.token == token, entry.health != .leaving else { return }
    entries[key]?.health = health
    try? await publish(key)
    if entries[key]?.token == token { entry.sink(event) }
  }

  private func publish(_ key: WorkloadKey) async throws {
    guard let entry = entries[key] else { return }
    let registration = entry.registration
    try await cluster.publish(
      workload: WorkloadRow(
        name: registration.name, namespace: registration.namespace, service: registration.service,
        serviceAccount: registration.serviceAccount, labels: registration.labels, address: registration.address,
        ports: [registration.port] + registration.otherPorts,
        locality: registration.locality ?? cluster.local.locality, weight: registration.weight, health: entry.health,
        createdAtMilliseconds: entry.createdAt))
  }

  // MARK: Ports

  /// The port the application was told before, or the lowest that nobody uses.
  private func choosePort(_ wanted: UInt16?) throws -> UInt16 {
    let used = Set(entries.values.map(\.outboundPort))
    if let wanted, !used.contains(wanted), isFree(wanted) { return wanted }
    var port = outboundFirst
    while port < UInt16.max {
      if !used.contains(port), isFree(port) { return port }
      port += 1
    }
    throw MeshError(.unavailable, "no port from \(outboundFirst) upwards is free on \(cluster.local.address.host)")
  }

  private func isFree(_ port: UInt16) -> Bool {
    guard let address = try? SocketAddress(parsing: "\(cluster.local.address.host):\(port)") else { return false }
    return (try? Listener(on: address, backlog: 1)) != nil
  }
}
