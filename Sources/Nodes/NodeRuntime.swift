import Cluster
import Consensus
import Membership
import MeshActors
import MeshConfig
import Primitives
import Proxy
import Synchronization
import Transport

/// One node: its parts built in order, started in order, and stopped in the opposite one.
actor NodeRuntime {
  nonisolated let file: ClusterFile
  nonisolated let node: ClusterFile.Node
  nonisolated let log: NodeLog
  nonisolated let options: StartOptions
  nonisolated let parts: NodeParts
  nonisolated let loop: EventLoop
  nonisolated let links: LinkNetwork
  nonisolated let system: SocketActorSystem
  nonisolated let cluster: ClusterRuntime
  nonisolated let proxy: ProxyRuntime
  nonisolated let snapshots: SnapshotKeeper
  nonisolated let proxyActor: ProxyActor
  nonisolated let configActor: ConfigActor
  nonisolated let certificateAuthorityActor: CertificateAuthorityActor
  nonisolated let discoveryActor: DiscoveryActor
  nonisolated let discovery: DiscoveryDuty
  nonisolated let workloads: LocalWorkloads
  nonisolated let identities: IdentityKeeper
  nonisolated let configuration: ConfigurationClient
  nonisolated let bundles: BundleKeeper
  nonisolated let startedAt = ContinuousClock.now

  private var servers: [LoopBound<SmallHTTPServer>] = []
  private var tasks: [Task<Void, Never>] = []
  private(set) var isAskedToLeave = false
  private(set) var isStopping = false
  private(set) var outOfStep: [NodeName] = []
  private var isSeeding = false
  private nonisolated let lastKnown: LastKnown
  nonisolated let catchingUp = CatchingUp()

  /// Reads the disk, binds the cluster's ports and builds everything; nothing is served yet.
  init(
    file: ClusterFile, node: ClusterFile.Node, options: StartOptions, log: NodeLog, clock: WallClock = .system
  ) async throws {
    self.file = file
    self.node = node
    self.options = options
    self.log = log
    parts = try NodeParts(file: file, node: node, token: options.token, clock: clock)
    let parts = parts
    var seeds = SeededGenerator(seed: UInt64.random(in: .min ... .max))
    let (linkEvents, linkEventSink) = AsyncStream.makeStream(of: LinkEvent.self, bufferingPolicy: .bufferingNewest(4_096))
    do {
      loop = try EventLoop(name: "control")
      try loop.start()
      let local = try file.clusterLocal(node, incarnation: parts.incarnation)
      let address = try SocketAddress(parsing: "\(node.address):\(file.ports.link)")
      links = try LinkNetwork(
        loop: loop,
        local: LocalNode(
          name: node.name, cluster: file.cluster, incarnation: parts.incarnation, trustDomain: file.trustDomain,
          address: address),
        credentials: try parts.linkCredentials(parts.identity, parts.trust), wallSeconds: { clock.seconds }
      ) { event in linkEventSink.yield(event) }
      system = SocketActorSystem(carrier: links)
      system.onTracedCall { call in
        let end = call.failed ? "failed" : "served"
        log.info(
          "call of \(call.actor) from \(call.caller) \(end) after \(Int(call.duration.inMilliseconds)) ms, trace \(call.trace.traceparent)"
        )
      }
      cluster = try ClusterRuntime(
        loop: loop, local: local, links: links, storage: parts.storage, joinSecret: parts.joinSecret,
        secretsKey: parts.secretsKey, identity: parts.identity, trust: parts.trust, rememberedRows: parts.rememberedRows,
        clock: parts.clock, seed: seeds.next())
      var settings = MeshSettings(
        cluster: file.cluster.string, trustDomain: file.trustDomain, localNode: node.name, localAddress: node.address,
        localLocality: Locality(parsing: node.locality))
      settings.domain = file.domain
      let logs = RequestLogs(in: file.dataDirectory(of: node), log)
      let layout = SnapshotKeeper.Layout(
        settings: settings, meshPort: file.ports.mesh, options: try Self.proxyOptions(file)
      ) { wanted, options in logs.options(for: wanted, over: options) }
      let empty = MeshSnapshot.compile(revision: 0, registryVersion: 0, objects: [], workloads: [], settings: layout.settings)
      proxy = try ProxyRuntime(
        workers: options.workers, serving: ProxyState(snapshot: empty.snapshot, options: layout.options), seed: seeds.next())
      snapshots = SnapshotKeeper(cluster: cluster, runtime: proxy, layout: layout, remembered: parts.remembered)
    } catch let error as SystemError {
      throw StartFailure(Self.explain(error, node))
    } catch let error as StartFailure {
      throw error
    } catch {
      throw StartFailure("\(error)")
    }
    lastKnown = LastKnown(cluster: cluster, storage: parts.storage, clock: parts.clock, remembered: parts.remembered)
    proxyActor = ProxyActor(keeper: snapshots, actorSystem: system)
    configActor = ConfigActor(
      cluster: cluster, domain: file.domain, isolatesTenants: file.configuration.isolatesTenants, actorSystem: system)
    configuration = ConfigurationClient(cluster: cluster, system: system)
    discoveryActor = DiscoveryActor(cluster: cluster, actorSystem: system)
    discovery = DiscoveryDuty(cluster: cluster, system: system)
    certificateAuthorityActor = CertificateAuthorityActor(
      cluster: cluster, authority: parts.authority,
      lifetimes: IssuedLifetimes(node: file.certificates.node, workload: file.certificates.workload),
      wallSeconds: { clock.seconds }, actorSystem: system)
    let (snapshots, links, proxy) = (snapshots, links, proxy)
    let https = HTTPSFetch(loop: loop) { name, answer in proxy.lookUp(name, answer) }
    bundles = BundleKeeper(
      fetch: { url throws(FetchError) in try await https.get(url, bytesMax: FetchLimits.bundleBytesMax) },
      directory: "\(parts.directory)/spiffe-bundles", seed: seeds.next(), unixSeconds: { clock.seconds },
      tell: { news in
        switch news {
        case .good(let text): log.info(text)
        case .bad(let text): log.warning(text)
        }
      }, changed: { await snapshots.use($0) })
    identities = IdentityKeeper(
      cluster: cluster, system: system, authority: parts.authority, directory: "\(parts.directory)/pki", node: parts.identity,
      trust: parts.trust, clock: clock, seed: seeds.next(),
      changed: { holdings in
        do { try links.update(parts.linkCredentials(holdings.node, holdings.trust)) } catch {
          log.error("the renewed certificate cannot be used for links: \(error)")
        }
        await snapshots.use(holdings)
      }, report: { log.warning($0) })
    let preparation = Preparation()
    workloads = LocalWorkloads(
      cluster: cluster, loop: loop, outboundFirst: file.ports.outboundFirst, wallMilliseconds: clock.milliseconds,
      agreement: RoutingAgreement(cluster: cluster, system: system),
      underWay: { [proxy, name = node.name] key in proxy.requestsUnderWay(to: "\(key.namespace)/\(key.name)@\(name)") },
      prepare: { try await preparation.run() })
    preparation.set { [weak self] in try await self?.prepareWorkloads() }
    let cluster = cluster
    let linkLog = LinkLog(log)
    tasks.append(
      Task {
        for await event in linkEvents {
          await cluster.received(event)
          await linkLog.note(event)
        }
      })
  }

  private static func explain(_ error: SystemError, _ node: ClusterFile.Node) -> String {
    let hint = error.code == 98 ? "\nIs node \(node.name) running already? See: mesh-node status --node \(node.name)" : ""
    return "\(error)\(hint)"
  }

  private static func proxyOptions(_ file: ClusterFile) throws -> ProxyOptions {
    var options = ProxyOptions()
    file.limits.apply(to: &options)
    switch file.accessLog {
    case "off": break
    case "stdout": options.accessLog = { NodeLog.standardOutput.append($0) }
    default:
      let access = try NodeLog(node: "", path: file.resolved(file.accessLog))
      options.accessLog = { access.append($0) }
    }
    return options
  }

  // MARK: Start

  /// Serves from what the disk remembers first, then joins the others.
  func start() async throws {
    do {
      await snapshots.refresh()
      await followBundles()
      judgeAdmissions()
      try links.listen()
      try await cluster.start { [system] command, leader, deadline in
        let reply = try await RemoteCall.with(timeout: ContinuousClock.now.duration(to: deadline)) {
          try await ConfigActor.on(leader, using: system).propose(command.encoded())
        }
        return reply.outcome
      }
      try startServers()
    } catch let error as SystemError {
      throw StartFailure(Self.explain(error, node))
    }
    links.setPeers(
      Dictionary(
        uniqueKeysWithValues: try file.nodes.filter { $0.name != node.name }.map {
          ($0.name, try SocketAddress(parsing: "\($0.address):\(file.ports.link)"))
        }))
    tasks.append(Task { await self.identities.run() })
    // Below the tasks that answer people: what is compiled now is not what they wait for.
    tasks.append(Task(priority: .medium) { await self.followCluster() })
    tasks.append(Task { await self.allocateAddresses() })
    tasks.append(Task { await self.lastKnown.run() })
    tasks.append(Task { await self.catchingUp.run(self.configuration) })
    tasks.append(Task { await self.watchRegistry() })
    tasks.append(Task { await Self.returnMemory() })
    if !cluster.secrets.isShared { tasks.append(Task { await self.askForSecretsKey() }) }
    if node.gateway { tasks.append(Task { await self.publishGateway() }) }
    log.info(
      "node \(node.name) of cluster \(file.cluster) runs at \(node.address), admin socket \(file.adminSocketPath(of: node))")
  }

  private func judgeAdmissions() {
    let listed = Set(file.nodes.map(\.name))
    let clock = parts.clock
    links.onAdmission { [cluster] node, _, trust, authorities in
      Admission(listed: listed, control: cluster.view.control).refusal(of: node, trust: trust, authorities: authorities)
    }
    links.onToken { [cluster] token, node, authorities in
      cluster.answer(to: token, of: node, offering: authorities, at: clock.milliseconds())
    }
  }

  private func startServers() throws {
    let admin = try Listener(on: .unix(path: file.adminSocketPath(of: node)))
    try serve(admin, bodyBytesMax: SmallHTTPLimits.bodyBytesMax) { [self] request, exchange in
      await AdminRoutes(node: self).answer(request, exchange)
    }
    try serve(Listener(on: SocketAddress(parsing: "\(node.address):\(file.ports.metrics)")), bodyBytesMax: 0) {
      [self] request, exchange in
      exchange.respond(await MetricsPage(node: self).answer(request))
    }
    try serve(Listener(on: SocketAddress(parsing: "\(node.address):\(file.ports.health)")), bodyBytesMax: 0) {
      [self] request, exchange in
      exchange.respond(await HealthPage(node: self).answer(request))
    }
  }

  private func serve(_ listener: consuming Listener, bodyBytesMax: Int, _ handler: @escaping SmallHTTPServer.Handler) throws {
    let server = SmallHTTPServer(loop: loop, listener: listener, bodyBytesMax: bodyBytesMax, handler: handler)
    let bound = LoopBound(server, on: loop)
    servers.append(bound)
    let log = log
    loop.post {
      do throws(SystemError) { try bound.value.start() } catch { log.error("\(error)") }
    }
  }

  /// The gateway is a workload like others: it has an identity, a row and routes.
  private func publishGateway() async {
    do {
      let row = WorkloadRow(
        name: try DNSLabel("istio-ingressgateway"), namespace: try DNSLabel("istio-system"),
        service: try DNSLabel("istio-ingressgateway"), serviceAccount: try DNSLabel("istio-ingressgateway-service-account"),
        labels: [
          WorkloadRow.Label(key: "app", value: "istio-ingressgateway"),
          WorkloadRow.Label(key: "istio", value: "ingressgateway"),
        ],
        address: node.address, ports: [], locality: node.locality, health: .healthy, isGateway: true,
        createdAtMilliseconds: parts.clock.milliseconds())
      try await cluster.publish(workload: row)
      try await prepareWorkloads()
    } catch {
      log.error("the gateway of this node: \(error)")
    }
  }

  /// Opens listeners for the workloads there are, and gets the certificates they need.
  private func prepareWorkloads() async throws {
    let needs = await workloads.needs
    var accounts = needs.accounts
    if node.gateway, let gateway = Self.gatewayAccount { accounts[gateway.account] = gateway.workload }
    await identities.want(accounts, version: needs.version, within: isStopping ? .zero : .seconds(10))
    // After the certificates: a port that opens without one could call nobody.
    await snapshots.use(needs)
  }

  private static let gatewayAccount: (account: AccountKey, workload: WorkloadKey)? = {
    guard let namespace = try? DNSLabel("istio-system"), let name = try? DNSLabel("istio-ingressgateway"),
      let account = try? DNSLabel("istio-ingressgateway-service-account")
    else { return nil }
    return (AccountKey(namespace: namespace, serviceAccount: account), WorkloadKey(namespace: namespace, name: name))
  }()

  // MARK: Following

  private func followCluster() async {
    var before = cluster.view
    for await change in cluster.changes() {
      if isStopping { return }
      let view = cluster.view
      tell(before, view)
      before = view
      if change.contains(.members) { system.update(gone: Set(view.members.filter { !$0.state.isLive }.map(\.name))) }
      if !change.isDisjoint(with: [.objects, .registry, .members, .trust]) { await snapshots.refresh() }
      if change.contains(.objects) { await followBundles() }
      if view.heldRoles.contains(.configuration), view.control.revision == .zero, !isSeeding { seedConfiguration() }
    }
  }

  /// Fetches the SPIFFE bundles that the configuration in force names. What is kept of them lasts until there is one.
  private func followBundles() async {
    guard let snapshot = await snapshots.serving?.snapshot, snapshot.revision > 0 else { return }
    await bundles.want(snapshot.settings.workloadTLS.authorities.bundleURLs)
  }

  /// Says what changed in the cluster, once.
  private func tell(_ old: ClusterView, _ new: ClusterView) {
    for member in new.members where member.name != node.name {
      let state = old.member(member.name)?.state
      if state != member.state { log.info("\(member.name) is \(member.state)") }
    }
    for role in Role.allCases where old.control.roles[role].epoch != new.control.roles[role].epoch {
      let state = new.control.roles[role]
      log.info("role \(role): \(state.holder?.string ?? "nobody"), epoch \(state.epoch) (\(state.reason))")
    }
    if old.raft.leader != new.raft.leader {
      log.info("Raft leader: \(new.raft.leader?.string ?? "none"), term \(new.raft.term)")
    }
    if old.failure != new.failure, let failure = new.failure { log.error(failure) }
  }

  /// Apart from `followCluster`: a write that waits for the voters must not delay the news of a dead node.
  private func allocateAddresses() async {
    for await _ in cluster.changes(of: [.objects, .registry, .roles]) {
      guard let snapshot = await snapshots.serving?.snapshot else { continue }
      let hosts = snapshot.services.filter { $0.addresses.isEmpty && $0.blocks.isEmpty && $0.allocatesAddress }.map(\.host)
      do { try await discovery.allocateAddresses(for: hosts) } catch { log.warning("allocating service addresses: \(error)") }
    }
  }

  private func watchRegistry() async {
    while !Task.isCancelled {
      try? await Task.sleep(for: .seconds(5))
      let lagging = await discovery.nodesOutOfStep(patience: .seconds(15))
      if lagging != outOfStep, !lagging.isEmpty {
        log.warning("the registry of \(lagging.map(\.string).joined(separator: ", ")) differs from this node's for 15 s")
      }
      outOfStep = lagging
    }
  }

  /// A node that joined with a token opens the configuration's Secrets with the key that a member gives it.
  private func askForSecretsKey() async {
    while !Task.isCancelled {
      if let key = await configuration.secretsKey() {
        cluster.take(secretsKey: key)
        do { try SecretsKeyFile(in: "\(parts.directory)/pki").replace(with: key) } catch {
          log.warning("the key of the Secrets cannot be kept, and is asked for again at the next start: \(error)")
        }
        return await snapshots.refresh()
      }
      try? await Task.sleep(for: .milliseconds(250))
    }
  }

  /// What a change, a handshake storm or a burst of traffic has left free goes back to the system.
  private static func returnMemory() async {
    while !Task.isCancelled {
      try? await Task.sleep(for: .seconds(5))
      Allocator.returnFreePages()
    }
  }

  // MARK: First configuration

  /// Applies what the cluster file names, when the cluster has no configuration yet.
  private func seedConfiguration() {
    guard !file.config.isEmpty else { return }
    isSeeding = true
    tasks.append(Task { await self.applySeeds() })
  }

  private func applySeeds() async {
    do {
      let sources = try SeedConfiguration.sources(file)
      let change = ConfigChange(
        sources: sources, namespace: "default", author: "\(node.name): \(file.path)", requestHigh: .random(in: .min ... .max),
        requestLow: .random(in: .min ... .max))
      let reply = try await configuration.submit(change, deadline: .now + .seconds(20))
      for finding in reply.findings { log.warning("\(finding.source):\(finding.line): \(finding.reason)") }
      log.info(
        reply.isAccepted
          ? "applied the configuration that \(file.path) names: revision \(reply.revision)"
          : "the configuration that \(file.path) names was refused; correct it and apply it with: mesh-node apply -f")
    } catch {
      log.error("applying the configuration that \(file.path) names: \(error)")
      isSeeding = false
    }
  }

  // MARK: Stop

  func askToLeave() { isAskedToLeave = true }

  /// Withdraws workloads, finishes requests, tells the others, and closes everything.
  ///
  /// - Parameter wanted: how long requests may take to finish; nil: `terminationDrainDuration`, which is 5 s in Istio.
  func stop(drain wanted: Duration?) async {
    isStopping = true
    let written = await snapshots.serving?.snapshot.settings.proxy.terminationDrain
    let drain = wanted ?? written ?? .seconds(5)
    await workloads.leave()
    // From here on the workers keep what they serve: the ports of workloads answer until they are drained.
    await snapshots.close()
    await workloads.close()
    if node.gateway, let gateway = Self.gatewayAccount {
      try? await cluster.withdraw(namespace: gateway.workload.namespace, name: gateway.workload.name)
    }
    await cluster.leave()
    if !(await proxy.drain(within: drain)) { log.warning("some requests did not finish within \(drain)") }
    for task in tasks { task.cancel() }
    await bundles.close()
    await links.close(reason: "stopping")
    await cluster.stop()
    for server in servers { loop.post { server.value.stop() } }
    await proxy.stop()
    await lastKnown.save()
    await withCheckedContinuation { continuation in parts.storage.close { continuation.resume() } }
    loop.stop()
    system.shutDown()
  }
}

/// Breaks the circle between a node and the workloads it prepares for.
private final class Preparation: Sendable {
  private let action = Mutex<(@Sendable () async throws -> Void)?>(nil)
  func set(_ body: @escaping @Sendable () async throws -> Void) { action.withLock { $0 = body } }
  func run() async throws { try await action.withLock { $0 }?() }
}
