import Glibc
import HTTP2
import HTTPCodec
import MeshConfig
import Primitives
import Telemetry
import Traffic
import Transport

/// One thread of the data plane with everything it needs: listeners, connections, pools, balancers, counters.
///
/// Nothing here is shared with another thread but the immutable state; there is no lock on the way of a request.
final class Worker: TurnHandler {
  let loop: EventLoop
  let index: Int
  private(set) var state: ServingState
  let resolver: Resolver

  private(set) var ports: [ProxyListener: ListeningPort] = [:]
  private var connections: [ObjectIdentifier: any ClientConnection] = [:]
  /// Shared by all workers.
  let overload: OverloadGuard
  var evictionAllowedAt = Instant.zero
  private var resumed: [any ClientConnection] = []
  private var waiting: [(exchange: Exchange, request: UInt64)] = []
  private(set) var isDraining = false

  var readBuffers = ReadBufferPool()
  let http2Memory = HTTP2MemoryPool()
  /// Where opaque bytes pass through, between one read and the writes that follow it.
  let relayScratch = UnsafeMutableRawBufferPointer.allocate(byteCount: ProxyLimits.relayReadBytes, alignment: 16)
  var pipes = SplicePipePool()
  let upstreams = UpstreamPool()
  var http2Upstreams = HTTP2UpstreamPool()
  var balancing = Balancing()
  /// Of ports of local workloads that have limits.
  var inboundBalancing = InboundBalancing()
  var telemetry: RequestTelemetry
  var counters = ProxyCounters()
  var draws: SeededGenerator
  private var logWriter: AccessLogWriter
  /// A log asks for more of a request than its end knows.
  private(set) var keepsLogNotes = false
  private var logBytes: [UInt8] = []
  /// Of `otherAccessLogs`.
  private var otherLogs: [OtherLog] = []
  private struct OtherLog {
    var writer: AccessLogWriter
    var bytes: [UInt8] = []

    mutating func append(_ record: AccessLogRecord, _ texts: borrowing some AccessLogTexts) {
      writer.append(record, texts, to: &bytes)
    }
  }
  /// For values that are made and copied at once.
  var scratch: [UInt8] = []
  private var isTurnEndAsked = false
  private var clock = HTTPDate()

  init(
    loop: EventLoop, index: Int, state: ServingState, resolver: Resolver, overload: OverloadGuard, seed: UInt64
  ) {
    self.loop = loop
    self.overload = overload
    self.index = index
    self.state = state
    self.resolver = resolver
    logWriter = AccessLogWriter(state.options.accessLogFormat)
    keepsLogNotes = state.options.logsAskForPast
    otherLogs = state.options.otherAccessLogs.map { OtherLog(writer: AccessLogWriter($0.format)) }
    draws = SeededGenerator(seed: seed)
    telemetry = RequestTelemetry()
  }

  deinit { relayScratch.deallocate() }

  /// The others, by index; nil for one that is not there.
  private var peers: [LoopBound<Worker>] = []
  func meet(_ workers: [LoopBound<Worker>]) { peers = workers }
  func peer(_ index: Int) -> LoopBound<Worker>? { peers.indices.contains(index) ? peers[index] : nil }

  // MARK: State

  /// Serves `state` from now on. Requests under way finish on the state they began with.
  func install(_ new: ServingState) {
    let formats = [state, new].map { [$0.options.accessLogFormat] + $0.options.otherAccessLogs.map(\.format) }
    if formats[0] != formats[1] {
      flushLog()
      logWriter = AccessLogWriter(new.options.accessLogFormat)
      keepsLogNotes = new.options.logsAskForPast
      otherLogs = new.options.otherAccessLogs.map { OtherLog(writer: AccessLogWriter($0.format)) }
    }
    state = new
    balancing.install(new.snapshot, new.loads)
    inboundBalancing.install(new.snapshot.inbound, new.inboundLoads)
    telemetry.install(new)
    for port in ports.values { port.resolve(in: new) }
    for connection in connections.values { connection.adopt(new) }
  }

  /// Listens at `address`; returns it with the port the kernel chose.
  func open(
    _ listener: ProxyListener, at address: SocketAddress, balance: AcceptBalance
  ) throws(SystemError) -> SocketAddress {
    let port = ListeningPort(try Listener(on: address, reusePort: true), for: listener, balance: balance, worker: self)
    ports[listener] = port
    port.resolve(in: state)
    try port.open()
    return port.address
  }

  func close(_ listener: ProxyListener) {
    guard let port = ports.removeValue(forKey: listener) else { return }
    port.drain()
    for connection in connections.values where connection.caller.port === port {
      connection.drain()
    }
    if !isDraining { endConnections(of: port, after: state.snapshot.settings.proxy.drain ?? ProxyLimits.drainOfListener) }
  }

  /// Connections of a listener that is gone do not last for ever (Istio, `drainDuration`).
  private func endConnections(of port: ListeningPort, after limit: Duration) {
    loop.schedule(after: limit) { [weak self] in
      guard let self else { return }
      for connection in Array(self.connections.values) where connection.caller.port === port { connection.close() }
    }
  }

  /// No new connections; idle ones end now, busy ones after their request.
  func drain() {
    isDraining = true
    for listener in Array(ports.keys) { close(listener) }
  }

  /// Whether this address is one of the proxy's own.
  func listens(at address: SocketAddress) -> Bool {
    ports.values.contains { port in
      port.address.port == address.port && (port.address.ip == address.ip || port.address.ip == .any)
    }
  }

  /// Ends everything at once.
  func shutDown() {
    drain()
    peers = []
    for connection in Array(connections.values) { connection.close() }
    for connection in upstreams.removeAll() { connection.close() }
    for connection in http2Upstreams.removeAll() { connection.shutDown() }
    turnEnded()
  }

  /// What `date` says now.
  var date: [UInt8] { clock.now }

  // MARK: Connections

  func accepted(_ socket: consuming Socket, from peer: SocketAddress, on port: ListeningPort) {
    guard admits(peer, descriptor: socket.descriptor) else { return }
    let local = port.isOnAnyAddress ? socket.localAddress ?? port.address : port.address
    // An outbound port lends its workload's identity: only programs of this host may use it.
    if port.lendsIdentity, !Self.isOfThisHost(peer, connectedTo: local) {
      counters.connectionsRefused += 1
      return
    }
    counters.connectionsAccepted += 1
    if port.isPlainHTTP {
      let caller = Caller(peer, connectedTo: local, isTLS: false, on: port)
      serveHTTP(ByteStream(socket), from: caller)
    } else {
      let arrival = Arrival(socket, from: peer, connectedTo: local, on: port, worker: self)
      add(arrival)
      arrival.open()
    }
  }

  /// Takes a connection on which HTTP is spoken from now on: which version, TLS has agreed on, or the first bytes tell.
  ///
  /// - Parameter received: bytes that were read from it already, at most a read buffer's.
  func serveHTTP(_ stream: consuming ByteStream, from caller: Caller, received: [UInt8] = []) {
    if stream.applicationProtocol == "h2" {
      let connection = HTTP2DownstreamConnection(from: caller, worker: self)
      add(connection)
      return connection.open(stream, received: UnsafeBufferPointer(start: nil, count: 0))
    }
    let connection = HTTP1Downstream(stream, from: caller, worker: self)
    add(connection)
    connection.open(received: received)
  }

  /// Whether a peer is a program of this host: it has a loopback address, or the one it connected to, or a Unix socket.
  static func isOfThisHost(_ peer: SocketAddress, connectedTo local: SocketAddress?) -> Bool {
    guard let address = peer.ip else { return true }
    return address.isLoopback || address == local?.ip
  }

  func add(_ connection: any ClientConnection) {
    connections[ObjectIdentifier(connection)] = connection
    connection.caller.port.began()
    overload.began(from: connection.caller.address.ip)
  }

  func remove(_ connection: any ClientConnection) {
    guard connections.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return }
    connection.caller.port.ended()
    overload.ended(from: connection.caller.address.ip)
  }

  var clientConnections: some Sequence<any ClientConnection> { connections.values }

  var openConnections: Int { connections.count }

  /// Goes on with a request that waited for a connection.
  func tryNextTurn(_ exchange: Exchange) {
    waiting.append((exchange, exchange.serial))
    askForTurnEnd()
  }

  /// Lets others run before a client's next pipelined requests.
  func resumeNextTurn(_ connection: any ClientConnection) {
    resumed.append(connection)
    askForTurnEnd()
  }

  // MARK: Mirrors

  private var mirrors = 0
  private var mirrorBytes = 0

  /// Counts a copy of a request; false when there are enough of them under way.
  func beginMirror(_ bytes: Int) -> Bool {
    guard mirrors < ProxyLimits.mirrorsMax, mirrorBytes + bytes <= ProxyLimits.mirrorBytesMax else {
      counters.mirrorsDropped += 1
      return false
    }
    mirrors += 1
    mirrorBytes += bytes
    return true
  }

  func endMirror(_ bytes: Int) {
    mirrors -= 1
    mirrorBytes -= bytes
  }

  // MARK: Log

  /// Appends a line; lines leave together at the end of the turn.
  func log(_ record: AccessLogRecord, _ texts: borrowing some AccessLogTexts) {
    logWriter.append(record, texts, to: &logBytes)
    for index in otherLogs.indices { otherLogs[index].append(record, texts) }
    if logBytes.count >= ProxyLimits.logBatchBytes { flushLog() } else { askForTurnEnd() }
  }

  private func flushLog() {
    guard !logBytes.isEmpty else { return }
    state.options.accessLog?(logBytes)
    logBytes.removeAll(keepingCapacity: true)
    for (index, output) in state.options.otherAccessLogs.enumerated() where otherLogs.indices.contains(index) {
      output.sink(otherLogs[index].bytes)
      otherLogs[index].bytes.removeAll(keepingCapacity: true)
    }
  }

  func noteHandshakeFailure(_ reason: String) { counters.lastHandshakeFailure = reason }

  private func askForTurnEnd() {
    guard !isTurnEndAsked else { return }
    isTurnEndAsked = true
    loop.atEndOfTurn(self)
  }

  func turnEnded() {
    isTurnEndAsked = false
    flushLog()
    let connections = resumed
    resumed = []
    for connection in connections { connection.process() }
    let exchanges = waiting
    waiting = []
    for (exchange, request) in exchanges
    where exchange.phase == .connecting && exchange.serial == request {
      exchange.beginTry()
      exchange.client?.flush()
    }
  }
}

/// Plain counts of one worker; added up over workers for `status` and metrics.
public struct ProxyCounters: Sendable, Hashable {
  public var connectionsAccepted: UInt64 = 0
  /// Closed at once because a worker has all it may have.
  public var connectionsRefused: UInt64 = 0
  /// Idle, and closed to make room for others.
  public var connectionsEvicted: UInt64 = 0
  public var acceptsExhausted: UInt64 = 0
  public var handshakeFailures: UInt64 = 0
  /// TLS handshakes with clients, and those of them that continued an earlier session.
  public var handshakes: UInt64 = 0
  public var handshakesResumed: UInt64 = 0
  public var headerTimeouts: UInt64 = 0
  public var http2Connections: UInt64 = 0
  /// Connections whose peer broke HTTP/2.
  public var http2Errors: UInt64 = 0
  public var requests: UInt64 = 0
  public var requestsRefused: UInt64 = 0
  public var localReplies: UInt64 = 0
  public var retries: UInt64 = 0
  /// Copies of requests that were not sent because too many were under way.
  public var mirrorsDropped: UInt64 = 0
  public var upstreamConnects: UInt64 = 0
  public var upstreamConnectFailures: UInt64 = 0
  /// TLS handshakes with servers and other nodes, and those of them that continued an earlier session.
  public var upstreamHandshakes: UInt64 = 0
  public var upstreamHandshakesResumed: UInt64 = 0
  /// Open now, idle ones included.
  public var upstreamConnections: Int64 = 0
  public var lastHandshakeFailure: String?

  /// Counts a handshake with a client; nil without TLS.
  mutating func shookHands(resumed: Bool?) {
    guard let resumed else { return }
    handshakes += 1
    if resumed { handshakesResumed += 1 }
  }

  /// Counts a handshake with a server or another node; nil without TLS.
  mutating func shookHandsUpstream(resumed: Bool?) {
    guard let resumed else { return }
    upstreamHandshakes += 1
    if resumed { upstreamHandshakesResumed += 1 }
  }

  mutating func add(_ other: ProxyCounters) {
    connectionsAccepted &+= other.connectionsAccepted
    connectionsRefused &+= other.connectionsRefused
    connectionsEvicted &+= other.connectionsEvicted
    acceptsExhausted &+= other.acceptsExhausted
    handshakeFailures &+= other.handshakeFailures
    handshakes &+= other.handshakes
    handshakesResumed &+= other.handshakesResumed
    headerTimeouts &+= other.headerTimeouts
    http2Connections &+= other.http2Connections
    http2Errors &+= other.http2Errors
    requests &+= other.requests
    requestsRefused &+= other.requestsRefused
    localReplies &+= other.localReplies
    retries &+= other.retries
    mirrorsDropped &+= other.mirrorsDropped
    upstreamConnects &+= other.upstreamConnects
    upstreamConnectFailures &+= other.upstreamConnectFailures
    upstreamHandshakes &+= other.upstreamHandshakes
    upstreamHandshakesResumed &+= other.upstreamHandshakesResumed
    upstreamConnections &+= other.upstreamConnections
    lastHandshakeFailure = lastHandshakeFailure ?? other.lastHandshakeFailure
  }
}
