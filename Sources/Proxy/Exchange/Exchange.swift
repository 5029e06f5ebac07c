import HTTPCodec
import MeshConfig
import Primitives
import Telemetry
import Traffic
import Transport

/// One request from its head to its log line. A client's connection or stream owns one and uses it for request after request.
///
/// What happens is in `RequestPath.swift`, in order; how an upstream's answer comes back is in `ResponsePath.swift`.
final class Exchange {
  enum Phase {
    case idle
    /// A decision, a delay or a name is awaited; nothing was sent upstream.
    case deciding
    /// A connection is being made for the current try.
    case connecting
    /// The request goes out; no response yet.
    case sending
    /// The response head was passed on.
    case responding
    case tunnel
  }

  let worker: Worker
  let caller: Caller
  /// Held while the client's side lives; it clears it at its end, so the two do not keep each other.
  var client: (any Downstream)?
  var phase = Phase.idle
  /// Counts the requests it has served: what waits for one of them does not meet another.
  private(set) var serial: UInt64 = 0
  /// The state this request began with; it keeps it to its end.
  var state: ServingState
  var head = RequestHead()
  var plan = RoutePlan(route: nil, outcome: .notFound)
  var facts = RouteFacts.none
  /// What the caller asks for itself, where it says so.
  var wishes: CallerWishes?

  // Who calls whom.
  var source: WorkloadIndex?
  var sourceLocal: Int?
  var inbound: InboundTarget?
  var cluster: ClusterIndex?
  var clusterState: ClusterState?
  /// Where the current try goes.
  var endpoint: Endpoint?
  var ticket: HostTicket?
  var destination: WorkloadIndex?
  /// A cookie of the balancer's own, for the response.
  var setCookie: [UInt8]?

  /// The request was a CONNECT, and what follows it is forwarded as it is.
  var tunnel: TunnelEnd?

  // The current try.
  var upstream: (any Upstream)?
  /// What `x-forwarded-client-cert` was before an application of this node was told who calls.
  var certificateFieldBefore: [UInt8]?
  /// Names as the client wrote them, where the mesh keeps their case and the caller is a node that told them.
  var spellings: [UInt8]?
  /// What a new connection of the try begins with.
  var preface: [UInt8] = []
  /// It goes to another node, by mTLS.
  var isMeshTry = false
  var attempts = 0
  var repicks = 0
  var tried: [UInt64] = []
  /// The try is counted in the cluster's load, and as a retry.
  var isCounted = false
  var isRetryCounted = false
  /// The workload of this node that the try is for, while it has not ended.
  var serving: WorkloadActivity?
  /// It stands in its cluster's queue.
  var isWaiting = false
  /// A kept connection failed this request; the next one is new.
  var mustOpenNew = false
  var retries = 0
  var tryBegan = Instant.zero

  // The request body.
  var replay: [UInt8] = []
  var replayIsWhole = true
  var bodyEnded = false
  var upstreamReady = false
  var isPumping = false
  var mustPumpAgain = false

  // Timers.
  var totalTimer = TimerToken.none
  var tryTimer = TimerToken.none
  var pauseTimer = TimerToken.none
  var resumesWith: Pause = .none

  /// What a pause ends with.
  enum Pause { case none, fault, retry }

  var deadline = Instant.distantFuture

  // What is recorded.
  var began = Instant.zero
  var startMilliseconds: UInt64 = 0
  var requestEnded = Instant.zero
  var status: UInt16 = 0
  var flags: ResponseFlags = []
  var details = ""
  var transportFailure = ""
  var requestBodyBytes: UInt64 = 0
  var responseBodyBytes: UInt64 = 0
  var responseHeadBytes: UInt64 = 0
  var serviceMilliseconds: UInt64?
  var originalTarget: Range<Int>?
  /// Kept for the log, where it asks for more than the rest of this.
  var notes: LogNotes?
  // gRPC.
  var isGRPC = false
  var grpcStatus: UInt8?
  var requestMessages = GRPCMessageCounter()
  var responseMessages = GRPCMessageCounter()
  /// The endpoint is judged by the trailers.
  var isJudgedLater = false
  /// The time limit is the caller's own (`grpc-timeout`).
  var isCallersDeadline = false
  /// A browser's call, at a gateway.
  var web: GRPCWeb?

  /// The response's head told the client that the connection ends after it.
  var closesAfter = false
  var upstreamAddressText = ""
  var upstreamLocalText = ""

  init(for caller: Caller, worker: Worker) {
    self.worker = worker
    self.caller = caller
    state = worker.state
  }

  /// Makes ready for another request; storage is kept.
  func reset(at began: Instant) {
    serial &+= 1
    state = worker.state
    plan = RoutePlan(route: nil, outcome: .notFound)
    facts = .none
    wishes = nil
    source = nil
    sourceLocal = nil
    inbound = nil
    cluster = nil
    clusterState = nil
    endpoint = nil
    ticket = nil
    setCookie = nil
    destination = nil
    upstream = nil
    isMeshTry = false
    certificateFieldBefore = nil
    spellings = nil
    attempts = 0
    repicks = 0
    tried.removeAll(keepingCapacity: true)
    isCounted = false
    isRetryCounted = false
    mustOpenNew = false
    retries = 0
    replay.removeAll(keepingCapacity: replay.capacity <= ProxyLimits.readBufferBytes)
    replayIsWhole = true
    bodyEnded = false
    upstreamReady = false
    resumesWith = .none
    deadline = .distantFuture
    self.began = began
    if state.options.accessLog != nil { beginNotes() }
    requestEnded = .zero
    status = 0
    flags = []
    details = ""
    transportFailure = ""
    requestBodyBytes = 0
    responseBodyBytes = 0
    responseHeadBytes = 0
    serviceMilliseconds = nil
    originalTarget = nil
    isGRPC = false
    grpcStatus = nil
    requestMessages = GRPCMessageCounter()
    responseMessages = GRPCMessageCounter()
    isJudgedLater = false
    isCallersDeadline = false
    web = nil
    upstreamAddressText = ""
    upstreamLocalText = ""
  }

  func adoptIfIdle(_ new: ServingState) {
    guard phase == .idle else { return }
    state = new
    clusterState = nil
    endpoint = nil
  }

  var now: Instant { worker.loop.now }
  var snapshot: MeshSnapshot { state.snapshot }

  /// The route of the plan, when one matched.
  var route: Route? {
    guard let reference = plan.route, let table = routeTable else { return nil }
    return table[reference]
  }

  var routeTable: RouteTable? {
    if isGateway { return caller.gateway(in: state).map { snapshot.gateways[$0].table } }
    guard let sourceLocal else { return nil }
    let index = ownListener?.table ?? snapshot.localWorkloads[sourceLocal].outbound
    return snapshot.outbound.indices.contains(index) ? snapshot.outbound[index] : nil
  }

  var isGateway: Bool { caller.port.isGateway }

  /// The port of the workload's Sidecar that the request came to, as this state has it.
  var ownListener: WorkloadListener? {
    guard caller.port.isOwn, case .sidecar(_, let bind, let port) = caller.port.listener.kind, let sourceLocal,
      snapshot.localWorkloads.indices.contains(sourceLocal)
    else { return nil }
    return snapshot.localWorkloads[sourceLocal].listeners.first { $0.bind == bind && $0.port == port }
  }

  /// What answers call this proxy: `istio-envoy` inbound and at gateways, `envoy` outbound.
  var serverName: [UInt8] { inbound != nil || isGateway ? Names.istioEnvoy : Names.envoy }

  // MARK: Timers

  func cancelTimers() {
    if totalTimer != .none { worker.loop.cancel(totalTimer) }
    if tryTimer != .none { worker.loop.cancel(tryTimer) }
    if pauseTimer != .none { worker.loop.cancel(pauseTimer) }
    totalTimer = .none
    tryTimer = .none
    pauseTimer = .none
  }

  func pause(_ duration: Duration, then: Pause) {
    resumesWith = then
    pauseTimer = worker.loop.schedule(after: duration, self)
  }
}

extension Exchange: TimerHandler {
  func timerFired(_ token: TimerToken) {
    guard phase != .idle else { return }
    switch token {
    case pauseTimer:
      pauseTimer = .none
      let then = resumesWith
      resumesWith = .none
      switch then {
      case .none: break
      case .fault: afterDelay()
      case .retry: beginTry()
      }
    case totalTimer:
      totalTimer = .none
      timedOut(.requestTimeout)
    case tryTimer:
      tryTimer = .none
      tryTimedOut()
    default: break
    }
    client?.flush()
  }
}
