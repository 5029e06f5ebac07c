import HTTPCodec
import MeshConfig
import Primitives
import Telemetry
import Traffic
import Transport

// The life of a request, in order: identify, normalise, authorise, route, pick, connect or reuse, send. Its answer comes
// back in ResponsePath.swift.
extension Exchange {
  /// The head is parsed and canonical; from here on every decision reads those same bytes.
  func begin(at firstByte: Instant) {
    reset(at: firstByte)
    phase = .deciding
    worker.counters.requests += 1
    guard worker.overload.level < .overloaded else { return reply(.overloaded) }
    guard identify() else { return }
    if head.method == .connect { return openTunnel() }
    let certificateField = isGateway ? sentCertificateField : nil
    normalise()
    if isGateway { forwardCertificate(sent: certificateField) }
    guard authorise() else { return reply(.accessDenied(policy: nil)) }
    guard passesRateLimit(of: inbound?.localWorkload ?? (isGateway ? sourceLocal : nil)) else { return }
    decide()
  }

  // MARK: Identify

  /// Finds who calls, from the connection and never from the request's own words.
  private func identify() -> Bool {
    isGRPC = callsGRPC
    if !isGRPC, isGateway, head.method == .post { beginWeb() }
    if caller.port.isMeshInbound {
      if head.method == .connect, let peer = caller.peer, peer.serverName.isEmpty {
        source = meshSource(of: peer)
        return true
      }
      guard let peer = caller.peer, let target = state.inboundTarget(serverName: peer.serverName) else {
        reply(.notProcessed)
        return false
      }
      inbound = target
      destination = snapshot.localWorkloads[target.localWorkload].workload
      source = meshSource(of: peer)
    } else {
      let local = caller.port.localWorkload
      guard snapshot.localWorkloads.indices.contains(local) else {
        reply(ProxyReply(LocalReply(status: 503, body: "", flags: .noClusterFound, details: "workload_not_registered")))
        return false
      }
      sourceLocal = local
      source = snapshot.localWorkloads[local].workload
      if caller.port.isOwn { return identifyOwn(local) }
    }
    return true
  }

  /// At a port that a Sidecar opens: by the workload, or for it and from anybody.
  private func identifyOwn(_ local: Int) -> Bool {
    guard let listener = ownListener else {
      reply(.notProcessed)
      return false
    }
    guard case .inbound = listener.role else { return true }
    sourceLocal = nil
    source = nil
    inbound = state.ownTarget(of: listener, localWorkload: local)
    destination = snapshot.localWorkloads[local].workload
    return true
  }

  /// The peer's workload: its own word for which one it is, believed only as far as its certificate allows.
  private func meshSource(of peer: MeshPeer) -> WorkloadIndex? {
    if caller.isInner { return caller.sourceKey.flatMap { snapshot.workloads.index(ofKey: $0) } }
    guard let value = head.headers.value(.meshSource) else { return nil }
    let bytes = head.headers.bytes
    let key = bytes.span.extracting(value)
    if let known = caller.lastSource, known.generation == state.generation, Bytes.equal(key, known.key) { return known.index }
    guard let index = snapshot.workloads.index(ofKey: head.headers.copy(value)),
      snapshot.workloads[index].principal == peer.identity.description
    else {
      return nil
    }
    caller.lastSource = (state.generation, head.headers.copy(value), index)
    return index
  }

  private var callsGRPC: Bool {
    guard let value = head.headers.value(.contentType) else { return false }
    let bytes = head.headers.bytes
    let type = bytes.span.extracting(value)
    let name = Names.grpc
    return Bytes.hasPrefix(type, name.span)
      && (type.count == name.count || type[name.count] == 0x2B || type[name.count] == 0x3B)
  }

  /// A browser's gRPC-Web call is gRPC from here on.
  private func beginWeb() {
    guard let type = head.headers.value(.contentType), let web = GRPCWeb(contentType: head.headers.copy(type)) else { return }
    self.web = web
    isGRPC = true
  }

  // MARK: Normalise

  /// Takes away what the client may not say, then adds what the mesh says. Hop-by-hop fields go first, so that a client's
  /// `Connection` field cannot take ours away (RFC 9112).
  private func normalise() {
    head.headers.removeHopByHop(keepingUpgrade: head.wantsUpgrade)
    if head.wantsUpgrade { head.headers.add(Names.connection, Names.upgradeValue) }
    if head.wantsUpgrade, caller.isHTTP2 { WebSocket.completeRequest(&head, draws: &worker.draws) }
    if keepsCase { spellings = spellingsOfCaller }
    head.headers.remove(Names.neverFromClients)
    if isGateway {
      head.headers.removeAll { _, name in Bytes.hasPrefix(lowercase: name, Names.envoyPrefix) }
      head.headers.remove(.requestID)
      if !keepsClientCertificateField { head.headers.remove(.forwardedClientCert) }
      appendForwardedFor()
      tellPort()
      if !trustsForwardedProtocol { head.headers.set(caller.isTLS ? Names.forwardedHTTPS : Names.forwardedHTTP) }
      // What the client claims says nothing about how it came.
      if (head.scheme.count == 5) != caller.isTLS { head.setScheme(secure: caller.isTLS) }
    } else if inbound == nil || caller.peer == nil {
      head.headers.remove(.forwardedClientCert)
    }
    if let web {
      head.headers.set(Names.contentType, web.requestType)
      head.headers.set(Names.te, Names.trailers)
      head.forgetLength()
    }
    if !head.headers.contains(.forwardedProto) { head.headers.add(Names.forwardedHTTP) }
    if !head.headers.contains(.requestID), !snapshot.settings.proxy.headers.leavesOutRequestID {
      worker.scratch.removeAll(keepingCapacity: true)
      RequestID(using: &worker.draws).append(to: &worker.scratch)
      head.headers.add(Names.requestID, worker.scratch)
    }
    if let inbound, let peer = caller.peer { forwardClientCertificate(peer, inbound) }
  }

  private func appendForwardedFor() {
    let ip = caller.ipText
    let said = head.headers.joined(.forwardedFor)
    if said.isEmpty {
      if !ip.isEmpty { head.headers.set(Names.forwardedFor, ip) }
    } else {
      head.headers.set(Names.forwardedFor, said + Array(", ".utf8) + ip)
    }
  }

  /// `x-forwarded-client-cert` in Istio's APPEND_FORWARD form: who called, as the certificate says.
  func appendClientCertificate(_ peer: MeshPeer, _ target: InboundTarget) {
    if caller.certificateText?.generation != state.generation {
      let own = snapshot.localWorkloads[target.localWorkload].identity
      let text = "By=\(own);Hash=\(peer.certificateHash)" + said(of: peer.identity)
      caller.certificateText = (state.generation, Array(text.utf8))
    }
    guard let own = caller.certificateText?.text else { return }
    let value = head.headers.joined(.forwardedClientCert)
    head.headers.set(Names.forwardedClientCert, value.isEmpty ? own : value + [0x2C] + own)
  }

  // MARK: Authorise

  /// Where authorisation policies are evaluated, on the canonical request. No policy exists in the snapshot yet, and Istio
  /// allows what no policy speaks about.
  private func authorise() -> Bool { true }

  // MARK: Route

  private func decide() {
    readWishes()
    guard inbound == nil else { return beginTry() }
    if isGateway {
      guard let gateway = caller.gateway(in: state) else { return reply(.noRoute) }
      // Only a server name makes the host worth a copy.
      if !caller.server.isEmpty, caller.isMisdirected(head.headers.copy(head.host), gateway, snapshot) {
        return reply(ProxyReply.misdirected)
      }
      plan = Router.route(head, in: snapshot.gateways[gateway], isHTTPS: caller.isTLS, draws: &worker.draws, facts: &facts)
    } else {
      guard let table = routeTable else { return reply(.noRoute) }
      let isHTTPS = head.form == .absolute && head.scheme.count == 5
      var context = RequestContext(port: head.port ?? (isHTTPS ? 443 : 80), isHTTPS: isHTTPS)
      if let destination = caller.destination {
        context.port = destination.port
        context.host = destination.host
      } else if case .http = ownListener?.role, let port = ownListener?.port {
        context.port = port
      }
      plan = Router.route(head, context, in: table, draws: &worker.draws, facts: &facts)
    }
    follow()
  }

  private func follow() {
    switch plan.outcome {
    case .forward(let drawn, _):
      let cluster = facts.hasSession ? joinSession(drawn) : drawn
      self.cluster = cluster
      clusterState = worker.balancing[cluster]
      armTotalTimer()
      guard let delay = plan.fault.delay else { return afterDelay() }
      flags.insert(.delayInjected)
      pause(delay, then: .fault)
    case .passthrough(let cluster):
      self.cluster = cluster
      beginTry()
    case .noCluster(_, let isGatewayAPI): reply(.noCluster(isGatewayAPI: isGatewayAPI))
    case .notFound: reply(.noRoute)
    case .blackHole: reply(.blackHole)
    case .redirect, .redirectToHTTPS, .directResponse, .preflight: replyByRoute()
    }
  }

  /// The route's limit, capped by a gRPC caller's own.
  private func armTotalTimer() {
    let caller = isGRPC ? head.headers.value(.grpcTimeout) : nil
    let callerLimit = caller.flatMap { RequestTimeouts.grpcTimeout(head.headers.copy($0).span) }
    let limit = wishes?.timeout ?? facts.timeout
    guard let total = RequestTimeouts.total(route: limit, caller: callerLimit) else { return }
    isCallersDeadline = total == callerLimit
    deadline = began + total
    totalTimer = worker.loop.schedule(at: deadline, self)
  }

  /// The injected delay, if any, is over; then the injected abort.
  func afterDelay() {
    if let abort = plan.fault.abort { return reply(.faultAbort(abort)) }
    applyRequestChanges()
    beginTry()
  }

  // MARK: Pick

  /// Chooses where this try goes and gets a connection there.
  func beginTry() {
    phase = .connecting
    upstreamReady = false
    tryBegan = now
    attempts += 1
    if let inbound { return connectInbound(inbound) }
    guard let cluster, snapshot.clusters.indices.contains(cluster) else { return reply(.noCluster(isGatewayAPI: false)) }
    // Single fields are read throughout: copying a cluster would count references to all of its parts.
    if snapshot.clusters[cluster].discovery == .originalDestination { return connectOriginal(snapshot.clusters[cluster]) }
    guard let clusterState else { return reply(.noCluster(isGatewayAPI: false)) }
    guard let chosen = pickEndpoint(cluster, clusterState) else { return reply(.noHealthyUpstream) }
    guard countTry(clusterState, snapshot.clusters[cluster].connectionPool) else { return reply(.overflow) }
    endpoint = chosen
    destination = chosen.workload
    tried.append(chosen.key)
    if chosen.isLocal, let workload = chosen.workload {
      let local = state.localWorkload(of: workload)
      guard attempts > 1 || passesRateLimit(of: local) else { return }
      serve(local)
    }
    armTryTimer()
    connect(to: chosen, in: cluster)
  }

  /// With `maxConnections` open, a request waits for one of this worker's to be free; with `http1MaxPendingRequests` waiting
  /// too, it is answered 503 UO.
  func waitForConnection(_ policy: ConnectionPoolPolicy) {
    tried.removeLast(min(1, tried.count))
    attempts -= 1
    uncount(wakingOthers: false)
    worker.loop.cancel(tryTimer)
    tryTimer = .none
    guard let clusterState, clusterState.wait(self, policy) else { return reply(.overflow) }
    isWaiting = true
  }

  /// Notes that a workload of this node has a request to answer.
  func serve(_ localWorkload: Int?) {
    guard let localWorkload, state.activity.indices.contains(localWorkload) else { return }
    serving = state.activity[localWorkload]
    serving?.began()
  }

  private func pickEndpoint(_ cluster: ClusterIndex, _ clusterState: ClusterState) -> Endpoint? {
    var request = PickRequest(hash: clusterState.balancer.isSticky ? stickyHash(cluster) : nil)
    let token = facts.hasSession ? sessionToken : nil
    request.preferred = token?.endpoint
    if attempts > 1 {
      let policy = route?.retry
      if policy?.avoidPreviousHosts ?? true { request.tried = tried }
      request.prefersRemote = policy?.remoteLocalities ?? false
    }
    guard case .endpoint(let ticket) = clusterState.balancer.pick(request, now: now, draws: &worker.draws) else { return nil }
    self.ticket = ticket
    if facts.hasSession { keepSession(token, at: ticket.key) }
    let endpoints = snapshot.clusters[cluster].endpoints
    if endpoints.indices.contains(ticket.index), endpoints[ticket.index].key == ticket.key { return endpoints[ticket.index] }
    if let found = endpoints.first(where: { $0.key == ticket.key }) { return found }
    // The balancer already knows a newer snapshot than this request.
    let name = snapshot.clusters[cluster].name
    let clusters = worker.state.snapshot.clusters
    let found = clusters.index(named: name, near: cluster)
    var newer = found.flatMap { clusters[$0].endpoints.first { $0.key == ticket.key } }
    newer?.workload = nil
    return newer
  }

  private func stickyHash(_ cluster: ClusterIndex) -> UInt64? {
    guard case .consistentHash(let key, _) = snapshot.clusters[cluster].loadBalancer.algorithm else { return nil }
    let sticky = StickyKey(
      head, key, sourceAddress: (trustedClient ?? caller.address.ip)?.bytes ?? [], draws: &worker.draws)
    if case .newCookie(_, let cookie) = sticky { setCookie = cookie }
    return sticky.hash
  }

  /// False when the circuit breaker is open.
  func countTry(_ clusterState: ClusterState, _ policy: ConnectionPoolPolicy) -> Bool {
    guard clusterState.load.beginRequest(policy) else { return false }
    isCounted = true
    if policy.retryBudget != nil { clusterState.load.note(policy.retryBudget, at: now) }
    if retries > 0 {
      isRetryCounted = true
      clusterState.load.beginRetry()
    }
    if let ticket { clusterState.balancer.started(ticket) }
    return true
  }

  private func armTryTimer() {
    guard let limit = perTryTimeout else { return }
    tryTimer = worker.loop.schedule(after: limit, self)
  }
}
