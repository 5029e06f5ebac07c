import CLinux
import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Traffic
import Transport

/// A connection that is accepted and whose protocol is not known yet: reads a PROXY header where one has to stand, looks
/// at the ClientHello where TLS may not end here, shakes hands, and gives the connection to who serves it.
final class Arrival: ClientConnection, EventHandler, TimerHandler {
  private enum Phase { case proxyHeader, hello, handshake, done }

  private(set) var caller: Caller
  private let worker: Worker
  private let port: ListeningPort
  private let state: ServingState
  private var phase = Phase.handshake
  /// Before TLS has begun.
  private var socket: Socket?
  private var stream: ByteStream?
  private var registration: Registration?
  private var timer = TimerToken.none

  init(
    _ socket: consuming Socket, from peer: SocketAddress, connectedTo local: SocketAddress, on port: ListeningPort,
    worker: Worker
  ) {
    self.socket = consume socket
    self.worker = worker
    self.port = port
    state = worker.state
    caller = Caller(peer, connectedTo: local, isTLS: false, on: port)
  }

  private var servers: GatewayPort? {
    guard case .gateway(let number, let bind) = port.listener.kind else { return nil }
    return state.tls.gateways[GatewayPlace(port: number, bind: bind)]
  }

  func open() {
    guard let descriptor = socket?.descriptor else { return }
    timer = worker.loop.schedule(after: state.options.handshakeTimeout, self)
    do throws(SystemError) {
      registration = try worker.loop.register(descriptor, self)
    } catch {
      return close()
    }
    if servers?.expectsProxyProtocol == true {
      phase = .proxyHeader
      process()
    } else {
      afterProxyHeader()
    }
  }

  func ready(_ readiness: Readiness) { process() }

  func timerFired(_ token: TimerToken) {
    guard token == timer else { return }
    timer = .none
    fail("no handshake within \(state.options.handshakeTimeout)")
  }

  func process() {
    switch phase {
    case .proxyHeader: readProxyHeader()
    case .hello: readHello()
    case .handshake: shakeHands()
    case .done: break
    }
  }

  // MARK: PROXY header

  private func readProxyHeader() {
    guard let descriptor = socket?.descriptor else { return }
    var found = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: ProxyProtocol.headerBytesMax) { buffer, count in
      found = cl_peek(descriptor, buffer.baseAddress, buffer.count)
      count = max(0, found)
    }
    guard found > 0 else {
      if found != -Int(EAGAIN) { fail("the client ended before its PROXY header") }
      return
    }
    switch ProxyProtocol.read(bytes.span) {
    case .needMore: return
    case .malformed: fail("no valid PROXY header")
    case .complete(let header, let count):
      guard take(count, from: descriptor) else { return fail("the PROXY header cannot be read") }
      if let (source, destination) = header.ends, let from = SocketAddress(source), let to = SocketAddress(destination) {
        caller = Caller(from, connectedTo: to, isTLS: false, on: port)
      }
      afterProxyHeader()
    }
  }

  /// Takes exactly the bytes that were looked at.
  private func take(_ count: Int, from descriptor: Int32) -> Bool {
    var bytes = [UInt8](repeating: 0, count: count)
    return bytes.withUnsafeMutableBytes { Socket.read(descriptor, into: $0) } == .bytes(count)
  }

  private func afterProxyHeader() {
    switch port.listener.kind {
    case .meshInbound:
      beginTLS(
        state.tls.inbound, missing: "no workload of this node has a certificate yet",
        unnamed: state.tls.unnamedInbound(at: caller.localAddress.ip))
    case .forward(_, let host, let number): forward(host, number)
    case .outbound: serveHTTP()
    case .sidecar: serveOwn()
    case .gateway:
      guard let servers else { return close() }
      if !servers.isTLS { return servePlain(servers) }
      guard servers.hasPassthrough else { return beginTLS(servers.context, missing: "no server has a certificate") }
      phase = .hello
      readHello()
    }
  }

  private func servePlain(_ servers: GatewayPort) {
    guard let first = servers.listeners.first, state.snapshot.gateways.indices.contains(first) else { return close() }
    guard case .tcp(let routes) = state.snapshot.gateways[first].role else { return serveHTTP() }
    let address = caller.localAddress.ip?.unmapped.bytes ?? []
    serve(TCPRouter.route(routes, address: address, draws: &worker.draws), serverName: nil)
  }

  /// A port that a Sidecar opens.
  private func serveOwn() {
    guard let own = port.own else { return close() }
    switch own.role {
    case .proxy, .http: serveHTTP()
    case .tcp(_, let host): forward(host, own.port)
    case .tls: forward("", own.port)
    case .inbound(let speaks, _, let tls):
      if tls != nil, stream == nil {
        return beginTLS(
          state.tls.gatewayContexts.workloads[port.listener.kind], missing: "the Sidecar's `tls` has no certificate")
      }
      if speaks.isHTTP, speaks != .auto { return serveHTTP() }
      guard let target = state.ownTarget(of: port) else { return close() }
      forward(TCPErrand(way: .inbound(target), request: TCPRequest(host: [], port: own.port), source: nil, sourceLocal: nil))
    }
  }

  // MARK: TLS

  private func readHello() {
    guard let descriptor = socket?.descriptor, let servers else { return }
    switch HelloPeek.read(descriptor) {
    case .needMore: return
    case .complete(let hello): chooseServer(hello.serverName, servers)
    case .notTLS, .malformed, nil: fail("no valid ClientHello")
    }
  }

  private func chooseServer(_ name: [UInt8], _ servers: GatewayPort) {
    guard let index = servers.listener(for: name, in: state.snapshot) else { return fail("no server for the name asked for") }
    guard case .passthrough(let routes) = state.snapshot.gateways[index].role else {
      return beginTLS(servers.context, missing: "no server has a certificate")
    }
    let address = caller.localAddress.ip?.unmapped.bytes ?? []
    serve(TCPRouter.route(routes, serverName: name, address: address, draws: &worker.draws), serverName: name)
  }

  private func beginTLS(_ context: TLSContext?, missing reason: String, unnamed: TLSContext? = nil) {
    guard let context, let socket = socket.take() else { return fail(reason) }
    phase = .handshake
    do throws(TLSError) {
      stream = try ByteStream(socket, context, unnamed: unnamed)
    } catch {
      return fail(error.description)
    }
    shakeHands()
  }

  private func shakeHands() {
    guard stream != nil, let result = stream?.handshake() else { return }
    switch result {
    case .wouldBlock: return
    case .failed(let reason): fail(reason)
    case .done:
      worker.counters.shookHands(resumed: stream?.isResumed)
      serveTLS()
    }
  }

  // MARK: Whom it is for

  private func serveTLS() {
    if port.isOwn {
      let secured = Caller(caller.address, connectedTo: caller.localAddress, isTLS: true, on: port)
      secured.tls = stream?.tls
      secured.certificate = stream?.clientCertificate
      caller = secured
      return serveOwn()
    }
    guard case .gateway = port.listener.kind else { return serveMesh() }
    guard let context = stream?.tlsContext, let index = state.tls.listenerByContext[ObjectIdentifier(context)],
      state.snapshot.gateways.indices.contains(index)
    else { return fail("no server for the name asked for") }
    let listener = state.snapshot.gateways[index]
    let secured = Caller(caller.address, connectedTo: caller.localAddress, isTLS: true, on: port, server: listener.server)
    secured.tls = stream?.tls
    secured.certificate = stream?.clientCertificate
    if state.snapshot.settings.proxy.headers.certificateDetails.chain {
      secured.certificateIssuers = stream?.clientIssuers ?? []
    }
    caller = secured
    if case .tls(_, let routes) = listener.role {
      let address = caller.localAddress.ip?.unmapped.bytes ?? []
      return serve(TCPRouter.route(routes, address: address, draws: &worker.draws), serverName: stream?.serverName)
    }
    serveHTTP()
  }

  private func serveMesh() {
    guard let peer = stream?.meshPeer else { return fail("the peer showed no identity") }
    caller = Caller(caller.address, connectedTo: caller.localAddress, isTLS: true, on: port)
    caller.peer = peer
    caller.tls = stream?.tls
    guard stream?.applicationProtocol == MeshProtocol.tcp else { return serveHTTP() }
    guard let target = state.inboundTarget(serverName: peer.serverName) else { return close() }
    forward(
      TCPErrand(way: .inbound(target), request: TCPRequest(host: [], port: target.port), source: nil, sourceLocal: nil))
  }

  private func forward(_ host: String, _ number: UInt16) {
    guard state.snapshot.localWorkloads.indices.contains(port.localWorkload) else { return close() }
    let address = IPAddress(host)?.unmapped.bytes ?? []
    let request = TCPRequest(host: Array(host.utf8), port: number, address: address)
    var errand = TCPErrand(
      way: .mesh, request: request, source: state.snapshot.localWorkloads[port.localWorkload].workload,
      sourceLocal: port.localWorkload)
    errand.table = port.own?.table
    if case .tls = port.own?.role { errand.isForServerName = true }
    forward(errand)
  }

  /// A gateway's connection, by what its rules say.
  private func serve(_ plan: TCPPlan, serverName: [UInt8]?) {
    guard state.snapshot.localWorkloads.indices.contains(port.localWorkload) else { return close() }
    let local = port.localWorkload
    let number = caller.localAddress.port ?? 0
    forward(
      TCPErrand(
        way: .decided(plan), request: TCPRequest(host: [], port: number, serverName: serverName),
        source: state.snapshot.localWorkloads[local].workload, sourceLocal: local))
  }

  private func forward(_ errand: TCPErrand) {
    guard let stream = release() else { return close() }
    let end = SocketEnd(stream, address: caller.address, loop: worker.loop)
    let forwarding = TCPForwarding(end, from: caller, for: errand, worker: worker)
    do throws(SystemError) {
      try end.open()
    } catch {
      return end.close(abortively: true)
    }
    forwarding.open()
  }

  private func serveHTTP() {
    guard let stream = release() else { return close() }
    worker.serveHTTP(stream, from: caller)
  }

  /// Gives the connection away, and ends here.
  private func release() -> ByteStream? {
    if let plain = socket.take() {
      end()
      return ByteStream(plain)
    }
    let given = stream.take()
    end()
    return given
  }

  // MARK: The end

  private func fail(_ reason: String) {
    worker.counters.handshakeFailures += 1
    worker.noteHandshakeFailure(reason)
    close()
  }

  private func end() {
    guard phase != .done else { return }
    phase = .done
    if timer != .none { worker.loop.cancel(timer) }
    if let registration { worker.loop.deregister(registration) }
    registration = nil
    worker.remove(self)
  }

  func adopt(_ state: ServingState) {}
  /// It came before the port closed, so it is served.
  func drain() {}

  func close() {
    guard phase != .done else { return }
    end()
    stream?.close(orderly: false)
    stream = nil
    socket = nil
  }
}

extension SocketAddress {
  /// An end named by a PROXY header.
  fileprivate init?(_ end: ProxyProtocol.End) {
    guard let address = IPAddress(bytes: end.address) else { return nil }
    self = .ip(address, port: end.port)
  }
}
