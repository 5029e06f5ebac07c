import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Traffic
import Transport

// What a connection to a port without a declared protocol carries (Istio, protocol selection), found without making anybody
// wait: the server is called at once, what it says passes at once, and whoever speaks first decides. A client that begins
// with a request is served as any other client of HTTP; everything else is relayed as it is. A port that is declared to speak
// HTTP is treated alike, so that an upgrade of its clients cannot break what works.
//
// Only a client that sends the beginning of a request line, and then waits for an answer to that, is not heard by its server.
extension TCPForwarding {
  /// Whether requests may be inside.
  var mayCarryHTTP: Bool {
    switch errand.way {
    case .inbound(let target): target.protocol.isHTTP
    case .mesh: table.map { TCPRouter.mayCarryHTTP(errand.request, in: $0) } ?? false
    case .decided: false
    }
  }

  // MARK: Listening

  /// Takes in the client's first bytes until they tell what it speaks.
  func listen() {
    let room = UnsafeMutableRawBufferPointer(rebasing: worker.relayScratch[..<ProtocolPeek.requestLineBytesMax])
    while isListening {
      switch client.read(into: room) {
      case .bytes(let count):
        heard.append(contentsOf: room[..<count])
        judge()
      case .wouldBlock: return
      // The relay meets the end again, and says it to the server.
      case .endOfStream, .failed: relayUnread()
      }
    }
  }

  private func judge() {
    let heard = heard
    switch ProtocolPeek(heard.span) {
    case .undecided: break
    case .http1, .http2: becomeHTTP()
    case .opaque: relayUnread()
    case .tls: judgeHello()
    }
  }

  /// Rules by server name have the connection before those of its port.
  private func judgeHello() {
    guard errand.way.isMesh, let rules = table?.port(errand.request.port)?.serverNames, !rules.isEmpty else {
      return relayUnread()
    }
    let heard = heard
    switch ClientHello.read(heard.span) {
    case .needMore: break
    case .notTLS, .malformed: relayUnread()
    case .complete(let hello):
      errand.request.serverName = hello.serverName
      guard rules.contains(where: { $0.pattern.admits(hello.serverName) }), plan != nil else { return relayUnread() }
      isListening = false
      leaveTry()
      pendingRefusal = nil
      phase = .connecting
      route()
    }
  }

  /// It is not HTTP: what was heard goes to the server with all that follows.
  private func relayUnread() {
    isListening = false
    cancel(&detectionTimer)
    client.observer = nil
    if let pendingRefusal { return refuse(pendingRefusal) }
    if phase == .listening, let server { startRelay(to: server) }
  }

  /// Nobody has said enough: it is opaque from here on (Istio, `protocolDetectionTimeout`).
  func detectionTimedOut() {
    guard isListening else { return }
    relayUnread()
  }

  /// The server is there. A client that was waiting for that speaks only now.
  func listenToBoth(_ end: any TCPEnd) {
    phase = .listening
    guard greet() else { return close() }
    end.observer = self
    listen()
    if isListening { hearServer() }
  }

  /// A server that speaks first does not speak HTTP.
  func hearServer() {
    guard isListening, let server else { return }
    let room = worker.relayScratch
    switch server.read(into: room) {
    case .wouldBlock: return
    case .bytes(let count): answered = Array(room[..<count])
    case .endOfStream, .failed: break
    }
    relayUnread()
  }

  /// A client that has not spoken yet, and waits for no answer, may be about to send a request: it is given the time that the
  /// first bytes take, so that it learns by a response what is wrong.
  func mayStillSpeakHTTP(_ refusal: Refusal) -> Bool {
    guard isListening, pendingRefusal == nil, phase == .connecting, refusal != .denied, !client.awaitsAnswer else {
      return false
    }
    pendingRefusal = refusal
    timer = worker.loop.schedule(after: ProxyLimits.firstBytesAfterFailure, self)
    return true
  }

  // MARK: HTTP

  /// Requests from here on, each with its own route, policies and metrics.
  private func becomeHTTP() {
    isListening = false
    carriesHTTP = true
    client.observer = nil
    leaveTry()
    guard greet() else { return close() }
    let caller = innerCaller
    guard let socket = client as? SocketEnd else { return bridge(to: caller) }
    let stream = socket.handOver()
    finish()
    worker.serveHTTP(stream, from: caller, received: heard)
  }

  /// Whoever it was that asked for the connection, and what for.
  private var innerCaller: Caller {
    let inner = Caller(caller.address, connectedTo: caller.localAddress, isTLS: caller.isTLS, on: caller.port)
    inner.peer = caller.peer
    inner.tls = caller.tls
    if case .inbound(let target) = errand.way {
      inner.peer?.serverName = state.inboundName(of: target)
    } else {
      inner.destination = Caller.Destination(host: errand.request.host, port: errand.request.port)
    }
    inner.isInner = true
    inner.sourceKey = errand.source.map { Array(snapshot.workloads[$0].key.utf8) }
    return inner
  }

  /// Requests inside a stream of an HTTP/2 connection: a pair of sockets stands between the stream and who serves them.
  private func bridge(to caller: Caller) {
    guard let pair = try? Socket.pair() else { return close() }
    let near = SocketEnd(
      ByteStream(Socket(adopting: pair.0)), address: caller.address, loop: worker.loop)
    let far = Socket(adopting: pair.1)
    do throws(SystemError) {
      try near.open()
    } catch {
      near.close(abortively: true)
      return close()
    }
    phase = .relaying
    server = near
    let relay = TCPRelay(client: client, server: near, worker: worker, observer: self)
    self.relay = relay
    worker.serveHTTP(ByteStream(far), from: caller)
    relay.start(preamble: heard)
    heard = []
  }
}

extension TCPErrand.Way {
  fileprivate var isMesh: Bool { self == .mesh }
}
