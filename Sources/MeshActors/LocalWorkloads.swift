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
    public var interval: Duration = .seconds(1)
    /// While the application is starting.
    public var startingInterval: Duration = .milliseconds(100)
    public var limit: Duration = .seconds(2)
    /// Consecutive failures that make a healthy workload unhealthy.
    public var failures = 2
    /// How long a withdrawn workload goes on serving what peers still send.
    public var leaveGrace: Duration = .milliseconds(400)
    /// How long a new registration waits for one of the same name to end.
    public var replacementPatience: Duration = .milliseconds(600)
    public init() {}
  }

  private let cluster: ClusterRuntime
  private let loop: EventLoop
  private let outboundFirst: UInt16
  private let timing: Timing
  private let wallMilliseconds: @Sendable () -> UInt64
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
    wallMilliseconds: @escaping @Sendable () -> UInt64, prepare: @escaping @Sendable () async throws -> Void
  ) {
    self.cluster = cluster
    self.loop = loop
    self.outboundFirst = outboundFirst
    self.timing = timing
    self.wallMilliseconds = wallMilliseconds
    self.prepare = prepare
  }

  /// What the workloads of this node need of it, at one moment.
  public struct Needs: Sendable {
    /// Grows with every change, so that an older answer never replaces a newer one.
    public var version: UInt64
    public var outboundPorts: [WorkloadKey: UInt16]
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
    return Needs(version: version, outboundPorts: entries.mapValues(\.outboundPort), accounts: accounts)
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
    guard let entry = entries[registration.key], entry.token == token, entry.health != .leaving else {
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

  /// Leave before stop: peers hear `leaving` and stop choosing it, running requests go on, then the row goes.
  public func withdraw(_ key: WorkloadKey) async throws {
    guard let entry = entries[key] else { throw MeshError(.notFound, "this node has no workload \(key)") }
    entries[key]?.watch?.cancel()
    entries[key]?.health = .leaving
    version &+= 1
    try await publish(key)
    try? await Task.sleep(for: timing.leaveGrace)
    entry.sink(.withdrawn)
    await remove(key, token: entry.token)
  }

  /// Whoever ran the workload is gone: it is taken out at once.
  public func ended(_ key: WorkloadKey, token: UInt64) async { await remove(key, token: token) }

  /// Withdraws everything, as the node stops.
  public func close() async {
    isClosed = true
    for key in entries.keys.sorted() {
      entries[key]?.watch?.cancel()
      entries[key]?.health = .leaving
      try? await publish(key)
    }
    if !entries.isEmpty { try? await Task.sleep(for: timing.leaveGrace) }
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
    var failures = 0
    while !Task.isCancelled, let entry = entries[key], entry.token == token {
      let registration = entry.registration
      guard let address = try? SocketAddress(parsing: "\(registration.address):\(registration.port.port)") else { return }
      let verdict = await HealthProbe.probe(address, path: registration.healthPath, limit: timing.limit, on: loop)
      guard !Task.isCancelled, entries[key]?.token == token else { return }
      switch verdict {
      case .healthy:
        failures = 0
        if entry.health != .healthy { await became(.healthy, key, token, .healthy) }
      case .unhealthy(let reason):
        failures += 1
        if entry.health == .healthy, failures >= timing.failures {
          await became(.unhealthy, key, token, .unhealthy(reason: reason))
        }
      }
      let isWaiting = entries[key]?.health == .starting || (failures > 0 && entries[key]?.health == .healthy)
      try? await Task.sleep(for: isWaiting ? timing.startingInterval : timing.interval)
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
        ports: [registration.port], locality: cluster.local.locality, weight: registration.weight, health: entry.health,
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
