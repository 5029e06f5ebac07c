import MeshConfig
import Primitives
import Transport

/// One listening socket of one worker; connections on it keep it to know what they are for.
final class ListeningPort: EventHandler, TimerHandler {
  let listener: ProxyListener
  let isGateway: Bool
  let isMeshInbound: Bool
  /// A Sidecar opens it.
  let isOwn: Bool
  /// Where it really listens.
  let address: SocketAddress
  /// Connections have to be asked where they came to.
  let isOnAnyAddress: Bool
  private(set) var isDraining = false
  /// Index of the local workload it serves, for outbound and gateway ports; −1 while the state names none.
  private(set) var localWorkload = -1
  /// Index into the snapshot's gateways; −1 when this is no gateway port or the gateway is gone.
  private(set) var gateway = -1
  /// What a port that a Sidecar opens is for; nil for other ports, and while the state names none.
  private(set) var own: WorkloadListener?

  /// Whoever connects speaks as the port's workload.
  var lendsIdentity: Bool {
    switch listener.kind {
    case .outbound, .forward: true
    case .gateway, .meshInbound: false
    case .sidecar: own?.table != nil
    }
  }
  /// HTTP from the first byte, as far as is known before one has come.
  private(set) var isPlainHTTP = false

  private let worker: Worker
  private let balance: AcceptBalance
  private var socket: Listener?
  private var registration: Registration?
  private var pause = TimerToken.none

  init(_ socket: consuming Listener, for listener: ProxyListener, balance: AcceptBalance, worker: Worker) {
    self.balance = balance
    address = socket.address
    isOnAnyAddress = address.ip == .any || address.ip == .v6(high: 0, low: 0)
    self.socket = consume socket
    self.listener = listener
    if case .gateway = listener.kind { isGateway = true } else { isGateway = false }
    isMeshInbound = listener.kind == .meshInbound
    if case .sidecar = listener.kind { isOwn = true } else { isOwn = false }
    self.worker = worker
  }

  func open() throws(SystemError) {
    guard let descriptor = socket?.descriptor else { return }
    registration = try worker.loop.register(descriptor, self)
    acceptAll()
  }

  /// Finds what the state says about this port.
  func resolve(in state: ServingState) {
    localWorkload = -1
    gateway = -1
    own = nil
    isPlainHTTP = false
    switch listener.kind {
    case .outbound(let key):
      localWorkload = state.localWorkload(key: key) ?? -1
      isPlainHTTP = true
    case .forward(let key, _, _): localWorkload = state.localWorkload(key: key) ?? -1
    case .sidecar(let key, let bind, let port):
      localWorkload = state.localWorkload(key: key) ?? -1
      guard localWorkload >= 0 else { return }
      own = state.snapshot.localWorkloads[localWorkload].listeners.first { $0.bind == bind && $0.port == port }
      isPlainHTTP = own?.isPlainHTTP ?? false
    case .gateway(let port, let bind):
      let place = GatewayPlace(port: port, bind: bind)
      guard let index = state.snapshot.gateways.firstIndex(where: { $0.place == place }) else { return }
      gateway = index
      localWorkload = state.snapshot.gateways[index].localWorkload
      isPlainHTTP = state.tls.gateways[place]?.isPlainHTTP ?? false
    case .meshInbound: break
    }
  }

  func ready(_ readiness: Readiness) { acceptAll() }

  func timerFired(_ token: TimerToken) {
    guard token == pause else { return }
    pause = .none
    acceptAll()
  }

  private func acceptAll() {
    guard pause == .none else { return }
    for _ in 0..<ProxyLimits.acceptsPerTurn {
      guard socket != nil, acceptOne() else { return }
    }
    // More may wait, and no edge will come for those.
    pause = worker.loop.schedule(after: .zero, self)
  }

  /// False when nobody waits, or accepting has to pause.
  private func acceptOne() -> Bool {
    guard let result = socket?.accept() else { return false }
    switch consume result {
    case .accepted(let client, let peer):
      serve(client, from: peer)
      return true
    case .wouldBlock: return false
    case .exhausted:
      worker.counters.acceptsExhausted += 1
      pause = worker.loop.schedule(after: ProxyLimits.acceptPause, self)
      return false
    case .failed: return false
    }
  }

  /// Serves a connection here, or on the worker that has the fewest of this listener.
  private func serve(_ client: consuming Socket, from peer: SocketAddress) {
    let chosen = balance.choose(for: worker.index)
    guard chosen != worker.index, !worker.isDraining, let other = worker.peer(chosen) else {
      return worker.accepted(client, from: peer, on: self)
    }
    // Counted at once, so that the next to be accepted sees it.
    balance.began(on: chosen)
    let descriptor = client.release()
    let (listener, balance, home) = (listener, balance, LoopBound((self, worker), on: worker.loop))
    other.loop.post {
      balance.ended(on: chosen)
      let client = Socket(adopting: descriptor)
      if let port = other.value.ports[listener] { return other.value.accepted(client, from: peer, on: port) }
      // It has closed this port, or not opened it yet: whoever accepted still has it.
      let descriptor = client.release()
      home.loop.post { home.value.1.accepted(Socket(adopting: descriptor), from: peer, on: home.value.0) }
    }
  }

  func began() { balance.began(on: worker.index) }
  func ended() { balance.ended(on: worker.index) }

  /// Takes who already waits in the kernel's queue, then stops listening; connections end after their request.
  func drain() {
    guard !isDraining else { return }
    while acceptOne() {}
    isDraining = true
    if pause != .none { worker.loop.cancel(pause) }
    pause = .none
    if let registration { worker.loop.deregister(registration) }
    registration = nil
    socket = nil
  }
}
