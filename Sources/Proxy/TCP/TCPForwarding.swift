import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Traffic
import Transport

/// One accepted opaque connection and the one made for it, in order: identify, authorise, route, pick, connect, relay, record.
///
/// Nothing of the client's bytes leaves before the connection is allowed and its other end is there, so connecting may be
/// tried at several endpoints. Where no server name is needed the other end is called at once: a server that speaks first
/// is never waited for.
final class TCPForwarding: ClientConnection, TCPEndObserver, TCPConnectObserver, TCPRelayObserver, TimerHandler {
  enum Phase: Equatable {
    case peeking, connecting
    /// The other end is there, and nobody has said yet what is spoken.
    case listening
    case relaying, closed
  }

  let caller: Caller
  let worker: Worker
  let state: ServingState
  let client: any TCPEnd
  var errand: TCPErrand
  var phase = Phase.connecting

  // Until it is known what the client speaks (see ProtocolDetection.swift).
  var isListening = false
  /// What it has said so far; goes to the server in front of the rest.
  var heard: [UInt8] = []
  /// What the server has said meanwhile.
  var answered: [UInt8] = []
  /// Nobody can be reached; a client that speaks HTTP is told so in its own words.
  var pendingRefusal: Refusal?
  /// What passes here is requests, which are counted as such.
  var carriesHTTP = false

  // Where it goes.
  private(set) var plan: TCPPlan?
  private(set) var endpoint: Endpoint?
  private var clusterState: ClusterState?
  private var ticket: HostTicket?
  /// The endpoint has been told of a connection that it was not told the end of.
  private var isStarted = false
  private var isCounted = false
  /// The workload of this node that it is for, and the count that a leaving one waits for.
  var serving: (key: String, activity: WorkloadActivity)?
  private var tried: [UInt64] = []
  private(set) var attempts = 0
  var server: (any TCPEnd)?
  var relay: TCPRelay?

  // What is recorded.
  let startMilliseconds = wallClockMilliseconds()
  let began: Instant
  var flags: ResponseFlags = []
  private(set) var termination = ""
  private(set) var transportFailure = ""
  private(set) var upstreamAddressText = ""
  private(set) var upstreamLocalText = ""
  var reportedUp: UInt64 = 0
  var reportedDown: UInt64 = 0
  var wasOpened = false

  // Time.
  var timer = TimerToken.none
  var reportTimer = TimerToken.none
  var durationTimer = TimerToken.none
  var detectionTimer = TimerToken.none
  var lastMoved: Instant

  init(_ client: any TCPEnd, from caller: Caller, for errand: TCPErrand, worker: Worker) {
    self.client = client
    self.caller = caller
    self.errand = errand
    self.worker = worker
    state = worker.state
    began = worker.loop.now
    lastMoved = began
  }

  var snapshot: MeshSnapshot { state.snapshot }
  var now: Instant { worker.loop.now }

  /// Begins. The worker holds the connection until `close`.
  func open() {
    worker.add(self)
    guard authorise() else {
      termination = "rbac_access_denied"
      return refuse(.denied)
    }
    if errand.way == .mesh, errand.request.serverName == nil, let table,
      errand.isForServerName || TCPRouter.needsServerName(errand.request, in: table)
    {
      phase = .peeking
      timer = worker.loop.schedule(after: state.options.handshakeTimeout, self)
      client.observer = self
      return beginPeeking()
    }
    if mayCarryHTTP {
      isListening = true
      client.observer = self
      if let limit = snapshot.settings.protocolDetectionTimeout {
        detectionTimer = worker.loop.schedule(after: limit, self)
      }
      listen()
      guard !carriesHTTP else { return }
    }
    if phase == .connecting { route() }
  }

  /// Where policies on connections are evaluated; Istio allows what no policy speaks about.
  private func authorise() -> Bool { true }

  // MARK: Server name

  /// A client of CONNECT says nothing before it is answered.
  private func beginPeeking() {
    guard greet() else { return close() }
    peek()
  }

  /// Answers who asked for the connection, before a byte of it has come; false when that cannot be written.
  func greet() -> Bool {
    client.accept()
    let greeting = client.greeting
    guard greeting.isEmpty || greeting.withUnsafeBytes({ client.write($0) }) == .bytes(greeting.count) else { return false }
    client.greetingIsOut()
    client.flush()
    return true
  }

  func endReady(_ end: any TCPEnd) {
    switch phase {
    case .peeking: peek()
    case .connecting where isListening: listen()
    case .listening: if end === client { listen() } else { hearServer() }
    case .connecting, .relaying, .closed: break
    }
  }

  /// Looks at the ClientHello, which stays where it is: the server gets it untouched.
  private func peek() {
    switch client.peekHello() {
    case .needMore: return
    case .complete(let hello):
      errand.request.serverName = hello.serverName
      if errand.isForServerName { errand.request.host = hello.serverName }
    case .notTLS: errand.request.serverName = []
    case .malformed, nil:
      flags.insert(.downstreamProtocolError)
      termination = "malformed_client_hello"
      return close()
    }
    cancel(&timer)
    phase = .connecting
    client.observer = nil
    route()
  }

  // MARK: Route

  var table: TCPRouteTable? {
    guard let local = errand.sourceLocal, snapshot.localWorkloads.indices.contains(local) else { return nil }
    let index = errand.table ?? snapshot.localWorkloads[local].outbound
    return snapshot.tcp.indices.contains(index) ? snapshot.tcp[index] : nil
  }

  func route() {
    switch errand.way {
    case .inbound: return beginTry()
    case .decided(let decided): plan = decided
    case .mesh:
      guard let local = errand.sourceLocal, let table, snapshot.localWorkloads.indices.contains(local) else {
        return refuse(.noRoute)
      }
      let index = errand.table ?? snapshot.localWorkloads[local].outbound
      let fallback = snapshot.outbound.indices.contains(index) ? snapshot.outbound[index].fallback : .notFound
      plan = TCPRouter.route(errand.request, in: table, fallback: fallback, draws: &worker.draws)
    }
    switch plan {
    case .forward(let cluster, _), .passthrough(let cluster):
      guard snapshot.clusters.indices.contains(cluster) else { return refuse(.noCluster) }
      clusterState = worker.balancing[cluster]
      beginTry()
    case .noCluster: refuse(.noCluster)
    case .blackHole: refuse(.blackHole)
    case .noRoute, nil: refuse(.noRoute)
    }
  }

  /// The cluster it goes to; nil inbound.
  var cluster: Cluster? {
    switch plan {
    case .forward(let index, _), .passthrough(let index): snapshot.clusters[index]
    default: nil
    }
  }

  // MARK: Pick and connect

  private func beginTry() {
    attempts += 1
    if case .inbound(let target) = errand.way {
      let application = snapshot.application(target)
      if let index = target.cluster {
        clusterState = worker.inboundBalancing[index]
        guard let clusterState, count(clusterState, snapshot.inbound[index]) else { return refuse(.overflow) }
      }
      return connect(.plain(application.host, application.port))
    }
    guard let cluster, let clusterState else { return refuse(.noCluster) }
    if cluster.discovery == .originalDestination {
      guard count(clusterState, cluster) else { return refuse(.overflow) }
      return connect(.plain(String(decoding: errand.request.host, as: UTF8.self), errand.request.port))
    }
    let request = PickRequest(hash: Self.hash(caller, cluster), tried: tried)
    guard case .endpoint(let chosen) = clusterState.balancer.pick(request, now: now, draws: &worker.draws),
      let found = cluster.endpoints.first(where: { $0.key == chosen.key }), !tried.contains(chosen.key)
    else { return refuse(attempts == 1 ? .noEndpoint : .connectFailed) }
    guard count(clusterState, cluster) else { return refuse(.overflow) }
    endpoint = found
    ticket = chosen
    clusterState.balancer.started(chosen)
    isStarted = true
    tried.append(chosen.key)
    connect(EndpointAddress(found, in: cluster, source: errand.sourceLocal, state))
  }

  /// Takes one of the cluster's connections; counted once for all tries.
  private func count(_ clusterState: ClusterState, _ cluster: Cluster) -> Bool {
    guard !isCounted else { return true }
    isCounted = clusterState.load.openConnection(cluster.connectionPool, isFirst: false)
    return isCounted
  }

  /// Of an opaque connection only the source's address can be sticky.
  private static func hash(_ caller: Caller, _ cluster: Cluster) -> UInt64? {
    guard case .consistentHash(.sourceAddress, _) = cluster.loadBalancer.algorithm else { return nil }
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in caller.address.ip?.bytes ?? [] { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    return hash
  }

  private func connect(_ target: EndpointAddress) {
    worker.counters.upstreamConnects += 1
    timer = worker.loop.schedule(after: cluster?.connectionPool.connectTimeout ?? snapshot.settings.connectTimeout, self)
    if let address = SocketAddress(endpoint: target.host, port: target.port) { return connect(target, to: address) }
    let attempt = attempts
    let bound = LoopBound(self, on: worker.loop)
    let known = worker.resolver.addresses(of: target.host, now: now) { addresses in
      bound.loop.post {
        let forwarding = bound.value
        guard forwarding.phase == .connecting, forwarding.attempts == attempt, forwarding.server == nil else { return }
        forwarding.resolved(addresses, target)
      }
    }
    if let known { resolved(known, target) }
  }

  private func resolved(_ addresses: [IPAddress], _ target: EndpointAddress) {
    guard !addresses.isEmpty else { return connectFailed(.dns) }
    let index = cluster?.discovery == .logicalDNS ? 0 : max(0, attempts - 1) % addresses.count
    connect(target, to: .ip(addresses[index], port: target.port))
  }

  private func connect(_ target: EndpointAddress, to address: SocketAddress) {
    // A connection to the proxy's own port, passed through, would come back for ever.
    if cluster?.discovery == .originalDestination, worker.listens(at: address) { return connectFailed(.unreachable) }
    do throws(ProxyError.ConnectFailure) {
      let end = try worker.connectEnd(target, to: address, state, for: self)
      upstreamAddressText = end.addressText
      server = end
    } catch {
      connectFailed(error)
    }
  }

  func connectFailed(_ failure: ProxyError.ConnectFailure) {
    guard phase == .connecting else { return }
    cancel(&timer)
    server?.close(abortively: true)
    server = nil
    worker.counters.upstreamConnectFailures += 1
    if case .tls(let reason) = failure { transportFailure = reason }
    if failure == .dns { flags.insert(.dnsResolutionFailed) }
    settle(.connectFailed)
    if ticket != nil, attempts < ProxyLimits.connectAttempts {
      ticket = nil
      endpoint = nil
      return beginTry()
    }
    refuse(.connectFailed)
  }

  private func settle(_ result: HostResult) {
    guard let ticket, let clusterState else { return }
    clusterState.balancer.report(result, ticket, now: now)
    if result == .connectFailed { release() }
  }

  /// Gives back what the current try holds, and its connection.
  func leaveTry() {
    cancel(&timer)
    server?.close(abortively: true)
    server = nil
    release()
    endServing()
    ticket = nil
    endpoint = nil
    if isCounted { clusterState?.load.closedConnection() }
    isCounted = false
  }

  func release() {
    guard isStarted, let ticket else { return }
    isStarted = false
    clusterState?.balancer.finished(ticket)
  }

  // MARK: Relay

  func connected(_ end: any TCPEnd) {
    guard phase == .connecting else { return }
    cancel(&timer)
    worker.counters.shookHandsUpstream(resumed: (end as? SocketEnd)?.isResumed)
    settle(.response(status: 200))
    upstreamLocalText = state.options.accessLog == nil ? "" : end.localAddressText
    lastMoved = now
    armIdleTimer()
    serve()
    if isListening { listenToBoth(end) } else { startRelay(to: end) }
  }

  // MARK: Time

  func timerFired(_ token: TimerToken) {
    switch token {
    case reportTimer:
      reportTimer = .none
      if !carriesHTTP { report() }
    case detectionTimer:
      detectionTimer = .none
      detectionTimedOut()
    case durationTimer:
      durationTimer = .none
      flags.insert(.durationTimeout)
      termination = "max_connection_duration"
      close()
    case timer:
      timer = .none
      switch phase {
      case .peeking:
        termination = "client_hello_timeout"
        close()
      case .connecting: if let pendingRefusal { refuse(pendingRefusal) } else { connectFailed(.timedOut) }
      case .listening, .relaying: checkIdle()
      case .closed: break
      }
    default: break
    }
  }

  private var idleLimit: Duration? {
    let limit = cluster?.connectionPool.tcpIdleTimeout ?? .seconds(3600)
    return limit > .zero ? limit : nil
  }

  private func armIdleTimer() {
    guard let idleLimit else { return }
    timer = worker.loop.schedule(at: lastMoved + idleLimit, self)
  }

  private func checkIdle() {
    guard let idleLimit, now - lastMoved >= idleLimit else { return armIdleTimer() }
    termination = "idle_timeout"
    close()
  }

  func cancel(_ token: inout TimerToken) {
    if token != .none { worker.loop.cancel(token) }
    token = .none
  }

  // MARK: The end

  /// Why a connection is not forwarded.
  enum Refusal { case denied, noRoute, noCluster, blackHole, noEndpoint, overflow, connectFailed }

  /// Closes the client's side without a byte from or to anybody.
  func refuse(_ refusal: Refusal) {
    guard !mayStillSpeakHTTP(refusal) else { return }
    switch refusal {
    case .denied, .blackHole: break
    case .noRoute: flags.insert(.noRouteFound)
    case .noCluster: flags.insert(.noClusterFound)
    case .noEndpoint: flags.insert(.noHealthyUpstream)
    case .overflow: flags.insert(.upstreamOverflow)
    case .connectFailed: flags.insert(.upstreamConnectionFailure)
    }
    client.refuse(refusal)
    client.close(abortively: false)
    finish()
  }

  // MARK: A connection of the worker

  func process() {}
  /// A workload that leaves is waited for; once it is gone, so are its connections.
  func adopt(_ new: ServingState) {
    guard let serving, new.localWorkload(key: serving.key) == nil else { return }
    termination = "workload_left"
    close()
  }

  /// An opaque connection cannot be told to come back elsewhere: it goes on until its ends are done.
  func drain() {}

  func close() {
    guard phase != .closed else { return }
    if let relay { relay.stop(abortively: true) } else { client.close(abortively: true) }
    server?.close(abortively: true)
    finish()
  }

  func finish() {
    guard phase != .closed else { return }
    phase = .closed
    isListening = false
    cancel(&detectionTimer)
    for token in [timer, reportTimer, durationTimer] where token != .none { worker.loop.cancel(token) }
    release()
    endServing()
    if isCounted { clusterState?.load.closedConnection() }
    isCounted = false
    if !carriesHTTP {
      if !wasOpened { count(opened: 1) }
      report()
      count(closed: 1)
      writeLog()
    }
    client.close(abortively: false)
    server?.close(abortively: false)
    worker.remove(self)
  }
}
