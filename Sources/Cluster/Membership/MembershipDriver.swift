import Consensus
import Membership
import Primitives
import Transport

/// Runs the SWIM core over UDP, with links as the fallback. Confined to the control loop.
final class MembershipDriver: EventHandler, TimerHandler {
  /// What the core wants of the rest of the cluster.
  struct Outputs {
    var sendStream: (_ message: [UInt8], _ node: NodeName, _ address: NodeAddress) -> Void
    var memberChanged: (MemberChange) -> Void
    var incarnationRaised: (UInt64) -> Void
    var registryDiffers: (NodeName, UInt64) -> Void
    var leaveCompleted: () -> Void
  }

  /// What arrived and could not be used, for the metrics page.
  var refusals: GossipRefusals {
    var sum = refused
    sum.strangers = seal.strangers
    sum.replays = seal.replays
    sum.unreadable &+= seal.unreadable
    return sum
  }
  private var refused = GossipRefusals()

  private let loop: EventLoop
  private let socket: DatagramSocket
  private let seal: GossipSeal
  private let outputs: Outputs
  private var swim: SWIM
  private var registration: Registration?
  private var timer: TimerToken?
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: ClusterLimits.datagramBytesMax, alignment: 8)

  /// Binds the gossip port at once, so that a port in use is told before anything starts.
  init(
    loop: EventLoop, bind address: SocketAddress, local: MemberRecord, seal: GossipSeal, seed: UInt64, outputs: Outputs
  ) throws(SystemError) {
    self.loop = loop
    self.seal = seal
    self.outputs = outputs
    socket = try DatagramSocket(boundTo: address)
    swim = SWIM(local: local, seed: seed, at: EventLoop.monotonicNow())
  }

  deinit { buffer.deallocate() }

  func start(seeds: [Seed]) throws(SystemError) {
    registration = try loop.register(socket.descriptor, self)
    feed(.join(seeds))
  }

  func stop() {
    if let registration { loop.deregister(registration) }
    registration = nil
    if let timer { loop.cancel(timer) }
    timer = nil
  }

  /// The gossip keys of the log, oldest first.
  func take(_ keys: [GossipKey]) { seal.take(keys, at: EventLoop.monotonicNow()) }

  /// The cluster has removed a node: nothing is kept of it.
  func forget(_ node: NodeName) {
    seal.forget(node)
    feed(.forget(node))
  }

  var members: [Member] { swim.members }
  var localHealthScore: Int { swim.localHealthScore }

  func feed(_ input: SWIM.Input) {
    var effects: [SWIM.Effect] = []
    swim.handle(input, at: EventLoop.monotonicNow(), into: &effects)
    for effect in effects { perform(effect) }
    arm()
  }

  /// A message that came on the link with `peer`.
  func receive(_ bytes: [UInt8], from peer: NodeName) {
    guard let message = try? SWIMMessage(decoding: bytes) else {
      refused.unreadable &+= 1
      return
    }
    feed(.stream(message, from: peer))
  }

  private func perform(_ effect: SWIM.Effect) {
    switch effect {
    case .sendDatagram(let message, let address): send(message, to: address)
    case .sendStream(let message, let node, let address): outputs.sendStream(message.encoded(), node, address)
    case .memberChanged(let change): outputs.memberChanged(change)
    case .incarnationRaised(let incarnation): outputs.incarnationRaised(incarnation)
    case .registryDiffers(let node, let digest): outputs.registryDiffers(node, digest)
    case .claimRejected: refused.claims &+= 1
    case .leaveCompleted: outputs.leaveCompleted()
    }
  }

  private func send(_ message: SWIMMessage, to address: NodeAddress) {
    guard let target = SocketAddress(address) else { return }
    seal.seal(message.encoded(), at: EventLoop.monotonicNow())?.withUnsafeBytes { _ = socket.send($0, to: target) }
  }

  func ready(_ readiness: Readiness) {
    guard readiness.contains(.readable) else { return }
    // Edge-triggered: read until empty, but let the loop do other work between batches.
    for _ in 0..<ClusterLimits.datagramsPerTurn {
      switch socket.receive(into: buffer) {
      case .datagram(let count, let sender, let truncated): receive(count: count, from: sender, truncated: truncated)
      case .wouldBlock: return
      case .failed: continue
      }
    }
    loop.schedule(after: .zero) { [weak self] in self?.ready(.readable) }
  }

  private func receive(count: Int, from sender: SocketAddress, truncated: Bool) {
    guard !truncated, let address = NodeAddress(sender) else {
      refused.unreadable &+= 1
      return
    }
    guard let message = seal.open(Array(UnsafeRawBufferPointer(rebasing: buffer[..<count]))[...]) else { return }
    feed(.datagram(message, from: address))
  }

  private func arm() {
    if let timer { loop.cancel(timer) }
    timer = swim.nextDeadline.map { loop.schedule(at: $0, self) }
  }

  func timerFired(_ token: TimerToken) {
    timer = nil
    feed(.tick)
  }
}

extension SocketAddress {
  init?(_ address: NodeAddress) {
    guard let ip = IPAddress(address.host) else { return nil }
    self = .ip(ip, port: address.port)
  }
}

extension NodeAddress {
  init?(_ address: SocketAddress) {
    guard case .ip(let ip, let port) = address else { return nil }
    self.init(host: "\(ip)", port: port)
  }
}
